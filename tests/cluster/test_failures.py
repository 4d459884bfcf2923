from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.cluster.executor import _failure
from smnas_optuna.cluster.messages import Epoch, Note, Order
from smnas_optuna.cluster.trainer import _Events
from smnas_optuna.config import StudySettings
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import DivergenceError, OutOfMemoryError
from smnas_optuna.session.executor import Job

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"


@pytest.mark.parametrize("cls", [DivergenceError, OutOfMemoryError])
def test_an_error_of_ours_keeps_its_class(cls: type) -> None:
    ended = _failure(cls.__name__, "it is so", "do this", "host", "a.jpg")
    assert type(ended.error) is cls
    assert not ended.broken
    assert str(ended.error) == "it is so\n  first: a.jpg\n  fix: do this"


@pytest.mark.parametrize("kind", ["DeviceFault", "RuntimeError", "ValueError", "SmnasError\x00", "annotations"])
def test_a_gpu_that_failed_and_errors_of_others_are_those_of_a_trainer_that_is_ended(kind: str) -> None:
    ended = _failure(kind, "it is so", "do this", "host")
    assert type(ended.error) is RuntimeError
    assert ended.broken
    assert str(ended.error) == f"{kind} on host: it is so"


def test_an_order_is_the_job_of_a_node(tmp_path: Path) -> None:
    settings = StudySettings.model_validate({"latency": {"reference": ARCH}})
    recipe = settings.train.model_copy(update={"epochs": 7, "scale_jitter": (0.5, 1.5), "bf16_on_cpu": True})
    job = Job(
        spec=decode(ARCH),
        seed=3,
        recipe=recipe,
        checkpoint=tmp_path / "here" / "c",
        key={"seed": 3},
        make_folder=lambda: None,
        rungs=(1, 2),
        max_seconds=4.0,
        images=("val", "test"),
        with_val=True,
    )
    there = pickle.loads(pickle.dumps(Order.of(job))).job(tmp_path / "there" / "c")
    assert (there.spec, there.seed, there.recipe, there.key) == (job.spec, 3, recipe, {"seed": 3})
    assert (there.rungs, there.max_seconds, there.images, there.with_val) == ((1, 2), 4.0, ("val", "test"), True)
    there.make_folder()
    assert (tmp_path / "there").is_dir()


def test_events_are_given_again_until_their_receipt_is_known() -> None:
    events, one, two = _Events(), Note("one"), Note("two")
    events.add(one)
    events.add(two)
    assert events.after(0, 0) == [(1, one), (2, two)]
    assert events.after(0, 0) == [(1, one), (2, two)]
    assert events.after(1, 0) == [(2, two)]
    assert events.after(2, 0) == []


def test_of_checkpoints_that_wait_only_the_last_one_is_kept() -> None:
    events = _Events()
    reports = [EpochReport(epoch=number, epochs=3, loss=1.0, skipped_steps=0, seconds=1.0) for number in (1, 2)]
    for report in reports:
        events.add(Epoch(report, b"checkpoint"))
    assert events.after(0, 0) == [(1, Epoch(reports[0], None)), (2, Epoch(reports[1], b"checkpoint"))]
