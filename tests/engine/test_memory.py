from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.engine.memory import ImagesAtOnce, TrainingMemory, estimate_training, fitting_micro_batch, halved
from smnas_optuna.errors import OutOfMemoryError

from ..models.tiny_detectors import ARCHS, build

SOME = ("one_stage", "two_stage", "guided-c4-basicblock")
some = pytest.mark.parametrize("arch", [ARCHS[name] for name in SOME], ids=SOME)


class _Layers(nn.Module):
    """Two linear maps of the pixels with a sigmoid between: its activations can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 50, bias=False)
        self.second = nn.Linear(50, 7, bias=False)
        self.register_buffer("scale", torch.ones(3))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        rows = batch.images[:, 0, :, :].to(torch.float32)  # [B, 32, 64]
        return {"loss": self.second(self.first(rows).sigmoid()).mean()}


def test_the_memory_of_two_layers_is_that_counted_by_hand() -> None:
    memory = estimate_training(_Layers(), 64, 32, max_boxes=3)

    weights = 4 * (64 * 50 + 50 * 7)
    assert memory.fixed_bytes == 4 * weights + 4 * 3  # weights, gradients and two moments; the buffer
    # of the batch: uint8 pixels, 3 boxes with label, crowd and corners, 7 int64 numbers
    batch = 3 * 32 * 64 + 3 * (4 * 4 + 8 + 1) + 7 * 8
    # live at the peak, the backward pass of the sigmoid: its input is gone; the row itself is kept for the first layer,
    # its output for its own gradient, and there are the gradients behind and before it
    activations = 4 * 32 * (64 + 50 + 50 + 50)
    assert memory.bytes_per_image == batch + activations


@pytest.mark.slow
@some
def test_estimating_leaves_the_detector_as_it_is(arch: str) -> None:
    detector = build(arch).eval()
    before = {name: value.clone() for name, value in detector.state_dict().items()}

    memory = estimate_training(detector, 64, 48)

    assert not detector.training
    assert {p.device.type for p in detector.parameters()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert all(p.grad is None for p in detector.parameters())
    weights = 4 * sum(p.numel() for p in detector.parameters())
    assert memory.fixed_bytes == 4 * weights + sum(buffer.nbytes for buffer in detector.buffers())


@pytest.mark.slow
@some
def test_an_image_of_four_times_the_size_and_more_boxes_take_more(arch: str) -> None:
    detector = build(arch)

    small, large, crowded = (
        estimate_training(detector, 128 * scale, 96 * scale, max_boxes=boxes).bytes_per_image
        for scale, boxes in ((1, 1), (2, 1), (1, 200))
    )

    assert 1.05 * small < large < 4 * small  # RoIs are as many
    assert crowded > small


MEASURED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from dataclasses import replace
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.memory import estimate_training
from smnas_optuna.engine.optimizer import build_optimizer
from smnas_optuna.engine.steps import train_step
from tests.models.tiny_detectors import build, make_batch

def step(arch, edge):
    detector = build(arch).train()
    images = torch.randint(0, 256, (2, 3, edge, edge), dtype=torch.uint8)
    train_step(detector, replace(make_batch()[:2], images=images), build_optimizer(detector, TrainSettings()), 10.0)

def peak():
    # not ru_maxrss, which a process has from the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))

arch, edge = "{arch}", 512
memory = estimate_training(build(arch), edge, edge, max_boxes=2)
step(arch, 64)  # libraries are loaded
before = peak()
step(arch, edge)
print((peak() - before) / (memory.fixed_bytes + 2 * memory.bytes_per_image))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
@pytest.mark.parametrize("rest", ["fpn-p3-p6-c64.none.retina", "fpn-p2-p6-c64.rpn.fc-w64"])
def test_a_step_takes_about_as_much_as_is_estimated(rest: str) -> None:
    """In a process of its own, whose peak is that of the step."""
    script = MEASURED.replace("{arch}", f"512x512.resnet18-w16.{rest}")

    ratio = float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)

    assert 0.7 < ratio < 1.6


@pytest.mark.parametrize(
    ("free", "images"),
    [(1000, 16), (260, 16), (259, 8), (180, 8), (179, 4), (140, 4), (120, 2), (110, 1), (109, 0), (0, 0)],
)
def test_the_largest_of_halves_that_fits_is_taken(free: int, images: int) -> None:
    assert fitting_micro_batch(TrainingMemory(fixed_bytes=100, bytes_per_image=10), 16, free) == images


@pytest.mark.parametrize(("batch_size", "expected"), [(5, [5, 3, 2, 1, 0]), (1, [1, 0]), (6, [6, 3, 2, 1, 0])])
def test_a_half_is_rounded_up(batch_size: int, expected: list[int]) -> None:
    memory = TrainingMemory(fixed_bytes=0, bytes_per_image=1)

    found = [fitting_micro_batch(memory, batch_size, free) for free in range(batch_size, -1, -1)]

    assert list(dict.fromkeys(found)) == expected
    assert [halved(each) for each in expected[:-2]] == expected[1:-1]


def _runs_out(above: int, calls: list[int]) -> Callable[[int], str]:
    def action(images: int) -> str:
        calls.append(images)
        if images > above:
            raise MemoryError("Unable to allocate 3.00 MiB for an array")
        return f"{images} at once"

    return action


def test_it_is_tried_with_half_as_many_until_it_fits_and_so_from_then_on() -> None:
    at_once, calls, notes = ImagesAtOnce(16), list[int](), list[str]()
    action = _runs_out(3, calls)

    results = [at_once.run(action, images, notes.append) for images in (16, 16, 2, 16)]

    assert results == ["2 at once"] * 4
    assert calls == [16, 8, 4, 2, 2, 2, 2]
    assert at_once.size == 2
    text = "out of memory: 3.0 MiB more were asked for (Unable to allocate 3.00 MiB for an array); "
    assert notes == [
        f"{text}from now on {less} images at once instead of {more}" for more, less in ((16, 8), (8, 4), (4, 2))
    ]


def test_of_fewer_images_than_fit_all_are_worked_on_at_once() -> None:
    at_once, calls = ImagesAtOnce(16), list[int]()

    at_once.run(_runs_out(3, calls), 3, pytest.fail)

    assert calls == [3]
    assert at_once.size == 16


def test_not_even_one_image_is_an_error_that_says_how_much_was_asked_for() -> None:
    calls, notes = list[int](), list[str]()

    with pytest.raises(OutOfMemoryError) as failure:
        ImagesAtOnce(4).run(_runs_out(0, calls), 4, notes.append)

    assert calls == [4, 2, 1]
    assert failure.value.message == (
        "not even one image at once: out of memory: 3.0 MiB more were asked for "
        "(Unable to allocate 3.00 MiB for an array)"
    )
    assert failure.value.fix == "use smaller values in the search space, or free memory on the device"


def test_another_error_is_not_tried_again() -> None:
    def action(images: int) -> None:
        raise RuntimeError("a shape does not fit")

    with pytest.raises(RuntimeError, match="a shape does not fit"):
        ImagesAtOnce(4).run(action, 4, pytest.fail)


def test_what_a_failed_try_has_made_is_gone_before_the_next() -> None:
    made: list[weakref.ref[torch.UntypedStorage]] = []

    def action(images: int) -> None:
        assert all(each() is None for each in made)
        activations = torch.zeros(images)
        made.append(weakref.ref(activations.untyped_storage()))
        circle: list[object] = [activations]
        circle.append(circle)
        if images > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    gc.disable()
    try:
        ImagesAtOnce(4).run(action, 4, lambda _: None)
    finally:
        gc.enable()

    assert len(made) == 3
