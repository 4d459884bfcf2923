"""On a real GPU, through the driver's NVML; nothing else may be at work on it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from smnas_optuna.engine.gpu_watch import BUSY_PERCENT, GpuWatch, settled_load, watch_gpu
from smnas_optuna.engine.nvml import THROTTLE_REASONS, Gpu, NvmlError, gpu_names, open_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")
READING_SECONDS = 2.0
"""The load that NVML tells is that of the last period of up to 1 s."""
BUSY = """
import torch
matrix = torch.randn(2048, 2048, device="cuda")
print("works", flush=True)
while True:
    for _ in range(50):
        matrix @ matrix
    torch.cuda.synchronize()
"""


def nothing() -> None:
    pass


@pytest.fixture
def gpu() -> Gpu:
    torch.zeros(1, device=CUDA)
    torch.cuda.synchronize()
    try:
        return open_gpu(CUDA)
    except NvmlError as error:
        pytest.skip(f"needs NVML: {error}")


@pytest.fixture
def free_gpu(gpu: Gpu) -> Gpu:
    load = settled_load(gpu, READING_SECONDS, nothing)
    if load is None:
        pytest.skip("needs the load of the GPU, which NVML does not tell of a part of one")
    if load >= BUSY_PERCENT:
        pytest.skip(f"needs the GPU for itself, and it is at work for others {load} % of the time: run it alone")
    return gpu


@contextmanager
def busy_process() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "works\n"
            time.sleep(READING_SECONDS)
            yield
        finally:
            process.kill()


def test_nvml_finds_torchs_gpu_and_says_something_sensible(gpu: Gpu) -> None:
    import pynvml

    uuid, place = gpu_names(torch.cuda.get_device_properties(CUDA))
    load, reasons = gpu.load_percent(), gpu.throttle_reasons()
    print(f"{uuid} at {place}: load {load} %, throttled {reasons}")  # noqa: T201  # pytest -s shows it

    assert uuid in pynvml.nvmlDeviceGetUUID(gpu._handle)
    assert uuid in pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByPciBusId(place)), "unless it is a part of a GPU"
    assert load is not None or reasons is not None, "it would see nothing"
    assert load is None or 0 <= load <= 100
    assert reasons is None or reasons <= set(THROTTLE_REASONS.values())
    assert watch_gpu(CUDA, note=print).gpu is not None


def test_a_process_that_computes_is_seen_and_an_idle_gpu_is_free(free_gpu: Gpu) -> None:
    notes: list[str] = []
    watch = GpuWatch(free_gpu, note=notes.append, patience_seconds=1.0)

    with busy_process():
        beside = watch.begin(nothing).end(nothing)
    time.sleep(READING_SECONDS)
    alone = watch.begin(nothing).end(nothing)
    print(f"beside {beside}, alone {alone}, notes {notes}")  # noqa: T201

    assert beside is not None
    assert alone is not None
    assert beside.disturbances != []
    assert alone.disturbances == []
    assert beside.foreign_load_percent is not None
    assert beside.foreign_load_percent > 50
    assert "the GPU is at work for others" in notes[0]


def test_our_own_work_is_out_of_the_load_when_it_has_ended(free_gpu: Gpu) -> None:
    matrix = torch.randn(2048, 2048, device=CUDA)
    start = time.monotonic()
    while time.monotonic() - start < READING_SECONDS:
        for _ in range(50):
            matrix @ matrix
        torch.cuda.synchronize()
    before = free_gpu.load_percent()

    start = time.monotonic()
    record = GpuWatch(free_gpu).begin(nothing).end(nothing)
    print(f"{before} %, then {record} after {time.monotonic() - start:.2f} s")  # noqa: T201

    assert record is not None
    assert (record.foreign_load_percent or 0) < BUSY_PERCENT
