from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from smnas_optuna.arch import decode
from smnas_optuna.config import TrainSettings
from smnas_optuna.data import DetectionLoader
from smnas_optuna.engine.checkpoint import resume
from smnas_optuna.engine.memory import estimate_training
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.models import Detector
from smnas_optuna.session import resumable as resumable_module
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.resumable import ResumableTraining, begin_training, fitting_images
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from ..engine.engine_fakes import Source, regressor

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
STEPS, EPOCHS = 4, 3
RECIPE = TrainSettings(epochs=EPOCHS)
KEY = {"arch": ARCH, "seed": 0}


def begin(folder: Path, notes: list[str] | None = None, key: Mapping[str, Any] = KEY) -> ResumableTraining:
    """A training of a fake detector on a fake GPU, which has no main memory to care for."""
    return begin_training(
        cast("Testbed", SimpleNamespace(device=torch.device("cuda"))),
        decode(ARCH),
        cast("Detector", regressor()),
        cast("DetectionLoader", Source(STEPS)),
        RECIPE,
        seed=0,
        checkpoint=folder / "checkpoint.safetensors",
        make_folder=lambda: None,
        key=key,
        note=(list[str]() if notes is None else notes).append,
    )


def stored(resumable: ResumableTraining) -> tuple[int, int] | None:
    """Epochs, and steps of the next one, that are stored."""
    training = Training(regressor(), Source(STEPS), RECIPE, seed=0)
    found = resume(resumable.checkpoint, training, KEY, lambda _: None)
    return (training.epochs_done, training.step) if found else None


def weights(resumable: ResumableTraining) -> list[torch.Tensor]:
    state = resumable.training.state()
    return [state.tensors[name] for name in sorted(state.tensors)]


def raise_at(at: int, error: Exception) -> Callable[[int, int], None]:
    def on_step(done: int, _: int) -> None:
        if done == at:
            raise error

    return on_step


def ignore(*_: object) -> None:
    pass


def test_an_epoch_is_stored_before_it_is_reported(tmp_path: Path) -> None:
    training = begin(tmp_path)
    told: list[tuple[int, tuple[int, int] | None]] = []

    assert training.run(on_step=ignore, on_epoch=lambda report: told.append((report.epoch, stored(training)))) == 0

    assert told == [(epoch, (epoch, 0)) for epoch in (1, 2, 3)]


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 2])
def test_interrupted_it_stores_its_step_and_resumes_to_the_same_weights(tmp_path: Path, at: int) -> None:
    first, notes, seen = begin(tmp_path), list[str](), list[int]()
    with pytest.raises(Interrupted):
        first.run(on_step=raise_at(at, Interrupted(15)), on_epoch=ignore)
    epochs = (at - 1) // STEPS  # after its last step an epoch is not over
    step = at - epochs * STEPS
    assert stored(first) == (epochs, step)

    resumed = begin(tmp_path, notes)
    resumed.run(on_step=lambda done, _: seen.append(done), on_epoch=ignore)

    (note,) = notes
    assert note.startswith(f"{ARCH}: ")
    assert note.endswith(f" after epoch {epochs}, step {step} of the next")
    assert seen == list(range(at + 1, EPOCHS * STEPS + 1)), "no step is made twice"
    whole = begin(tmp_path / "none")
    whole.checkpoint.parent.mkdir()
    whole.run(on_step=ignore, on_epoch=ignore)
    assert all(map(torch.equal, weights(resumed), weights(whole)))


def test_interrupted_as_it_begins_or_as_an_epoch_is_reported_it_is_stored_too(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted(15)

    training = begin(tmp_path)
    with pytest.raises(Interrupted):
        training.run(on_step=ignore, on_epoch=ignore, on_begin=interrupt)
    assert stored(training) == (0, 0)
    with pytest.raises(Interrupted):
        training.run(on_step=ignore, on_epoch=interrupt)
    assert stored(training) == (1, 0)


def test_what_else_ends_it_leaves_the_last_epoch(tmp_path: Path) -> None:
    training = begin(tmp_path)

    with pytest.raises(ZeroDivisionError):
        training.run(on_step=raise_at(STEPS + 2, ZeroDivisionError()), on_epoch=ignore)

    assert stored(training) == (1, 0)


def test_it_begins_before_its_first_step(tmp_path: Path) -> None:
    order: list[str] = []

    def on_epoch(report: EpochReport) -> None:
        order.append(f"epoch {report.epoch}")

    begin(tmp_path).run(
        on_step=lambda done, total: order.append(f"{done} of {total}"),
        on_epoch=on_epoch,
        on_begin=lambda: order.append("begin"),
    )

    assert order[:2] == ["begin", "1 of 12"]
    assert order[-2:] == ["12 of 12", "epoch 3"]


def test_the_checkpoint_of_another_key_is_set_aside(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        begin(tmp_path).run(on_step=raise_at(2, Interrupted(15)), on_epoch=ignore)
    notes: list[str] = []

    training = begin(tmp_path, notes, key={**KEY, "seed": 1}).training

    assert (training.epochs_done, training.step) == (0, 0)
    (note,) = notes
    assert str(tmp_path / "checkpoint.safetensors") in note
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors.set-aside"]


@pytest.mark.slow
def test_main_memory_decides_how_many_images_are_trained_at_once(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed = prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    spec = decode(ARCH)
    detector = testbed.build(spec, seed=0)
    estimate = cache(estimate_training)  # it takes a second
    memory = estimate(detector, 64, 64, max_boxes=testbed.splits.train.max_boxes)
    monkeypatch.setattr(resumable_module, "estimate_training", estimate)

    for images in (8, 2, 1):
        free = memory.fixed_bytes + images * memory.bytes_per_image
        monkeypatch.setattr(resumable_module, "free_memory", partial(int, free))
        assert fitting_images(testbed, detector, spec) == images
    monkeypatch.setattr(resumable_module, "free_memory", partial(int, memory.fixed_bytes))
    with pytest.raises(OutOfMemoryError, match=r"one image a step takes about \d+ MiB of main memory, and \d+ MiB are"):
        fitting_images(testbed, detector, spec)
