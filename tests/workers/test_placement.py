from __future__ import annotations

import pytest
import torch

from smnas_optuna.allowance import MIB, cores_in_words, usable_cores
from smnas_optuna.workers import placement as placement_module
from smnas_optuna.workers.placement import (
    CPU_WORKERS,
    WORKER_MIB,
    WORKERS_PER_CORE,
    WORKERS_PER_GPU,
    Placement,
    most_workers,
    place_workers,
    visible_gpus,
)

PLENTY = 2**50


@pytest.fixture(autouse=True)
def plenty_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "free_memory", lambda: PLENTY)


def test_workers_take_turns_with_the_gpus_and_keep_the_rest_of_the_environment() -> None:
    environment = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3,5"}
    placement = Placement(workers=3, gpus=["3", "5"])

    seen = [placement.environment(environment, slot) for slot in range(3)]

    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen] == ["3", "5", "3"]
    assert {each["PATH"] for each in seen} == {"/bin"}
    assert placement.threads is None
    assert Placement(workers=3).environment(environment, 1) == environment


def test_several_workers_on_a_cpu_share_its_cores() -> None:
    assert Placement(workers=1).threads is None
    assert Placement(workers=2).threads == max(1, usable_cores() // 2)
    assert Placement(workers=10_000).threads == 1


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (64, CPU_WORKERS)])
def test_by_default_there_is_a_worker_for_each_core_up_to_a_few(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr(placement_module, "usable_cores", lambda: cores)

    assert place_workers(None, "cpu", {}) == Placement(workers=workers, gpus=[])
    assert place_workers(2, "cpu", {}) == Placement(workers=2, gpus=[])


@pytest.mark.parametrize(
    ("cores", "free_bytes", "gpus", "most", "why"),
    [
        (3, PLENTY, 0, 3 * WORKERS_PER_CORE, f"2 for each core, and this process may use {cores_in_words()}"),
        (64, 5 * WORKER_MIB * MIB - 1, 0, 4, f"each takes about {WORKER_MIB} MiB, and {5 * WORKER_MIB - 1:,} MiB are"),
        (64, 5 * WORKER_MIB * MIB, 2, 5, f"each takes about {WORKER_MIB} MiB, and {5 * WORKER_MIB:,} MiB are free"),
        (64, 7 * MIB, 0, 1, "and 7 MiB are free"),
        (64, PLENTY, 2, 2 * WORKERS_PER_GPU, "4 for each GPU, and 2 can be seen"),
        (1, PLENTY, 8, WORKERS_PER_CORE, "2 for each core"),
    ],
    ids=["cores", "memory", "memory beside GPUs", "hardly any memory", "GPUs", "cores beside GPUs"],
)
def test_cores_memory_and_gpus_bound_the_workers(cores: int, free_bytes: int, gpus: int, most: int, why: str) -> None:
    number, reason = most_workers(cores, free_bytes, gpus)

    assert number == most
    assert why in reason


@pytest.mark.parametrize("asked", [1000, 10**30])
def test_who_asks_for_too_many_workers_is_told_how_many_start_and_why(
    monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(placement_module, "free_memory", lambda: 1000 * MIB)

    assert place_workers(asked, "cpu", {}, notes.append).workers == 1
    assert notes == [f"of {asked:,} workers 1 is started: each takes about {WORKER_MIB} MiB, and 1,000 MiB are free"]
    assert place_workers(1, "cpu", {}, notes.append).workers == 1
    assert len(notes) == 1


def test_by_default_there_is_a_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "visible_gpus", lambda _: ["0", "1", "2"])

    assert place_workers(None, "auto", {}) == Placement(workers=3, gpus=["0", "1", "2"])
    assert place_workers(None, "cpu", {}).gpus == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_none_is_visible() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []
