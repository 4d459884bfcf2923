"""A training on a cluster whose events cannot be told to who asked for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smnas_optuna.cluster.executor import _LostError, _Training
from smnas_optuna.cluster.messages import Event, Failed, Spent

END = Failed(kind="RuntimeError", message="the GPU", fix="")


class Pool:
    """Keeps what becomes of a trainer."""

    def __init__(self) -> None:
        self.fate: list[str] = []
        self.has_idle = False

    def give_back(self, _: object) -> None:
        self.fate.append("free")

    def bury(self, _: object) -> None:
        self.fate.append("buried")


def full_disk(phase: str, _: float) -> None:
    if phase != "waiting":
        raise OSError("No space left on device")


@pytest.mark.parametrize("batches", [[[Spent("train", 1.0), END]], [[Spent("train", 1.0)], [], [END]]])
def test_an_error_beside_the_end_frees_the_trainer_and_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: list[list[Event]]
) -> None:
    pool, asked = Pool(), iter(batches)
    job = SimpleNamespace(checkpoint=tmp_path / "checkpoint")
    parts: Any = SimpleNamespace(pool=pool), SimpleNamespace(node=None), job, SimpleNamespace(spent=full_disk)
    training = _Training(*parts)

    def call(method: str, *_: object, **__: object) -> list[tuple[int, Event]] | None:
        return [(number, event) for number, event in enumerate(next(asked), 1)] if method == "events" else None

    monkeypatch.setattr(training, "_call", call)
    monkeypatch.setattr("smnas_optuna.cluster.executor.Order", SimpleNamespace(of=lambda _: None))

    with pytest.raises(OSError, match="No space left"):  # and no StopIteration: nothing more is asked for
        training.run(0.0)

    assert pool.fate == ["free"]


class NoPlace:
    """A cluster with a trainer that waits for resources which never come, and maybe an idle one."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.baton = pool, SimpleNamespace(passed_on=nullcontext)

    def check(self) -> None:
        pass

    def result_of(self, _: object, method: str, arguments: object, check: Callable[[], None]) -> None:
        self.asked = method
        while True:
            check()


def started(pool: Pool, tmp_path: Path) -> tuple[_Training, list[str]]:
    notes = list[str]()
    watch = SimpleNamespace(spent=lambda *_: None, note=notes.append)
    node = SimpleNamespace(name="host")
    parts: Any = NoPlace(pool), SimpleNamespace(node=node), SimpleNamespace(checkpoint=tmp_path / "none"), watch
    return _Training(*parts), notes


def test_a_trainer_that_never_begins_is_given_up_for_an_idle_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool()
    pool.has_idle = True
    training, _ = started(pool, tmp_path)
    monkeypatch.setattr("smnas_optuna.cluster.executor.Order", SimpleNamespace(of=lambda _: None))
    monkeypatch.setattr("smnas_optuna.cluster.executor.START_S", 0.01)

    with pytest.raises(_LostError, match="its process has not begun on host") as lost:
        training.run(0.0)

    assert lost.value.with_node, "the architecture is not at fault"
    assert pool.fate == ["buried"]


def test_a_trainer_that_never_began_does_not_hold_up_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    training, notes = started(pool, tmp_path)
    monkeypatch.setattr("smnas_optuna.cluster.executor.STOP_S", 0.01)

    training._keep()

    assert notes == ["its last steps are lost (its process does not answer on host); it goes on from its last epoch"]
    assert pool.fate == ["buried"]
