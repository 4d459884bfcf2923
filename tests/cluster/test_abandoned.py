"""A training on a cluster whose events cannot be told to who asked for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smnas_optuna.cluster.executor import _Training
from smnas_optuna.cluster.messages import Event, Failed, Spent

END = Failed(kind="RuntimeError", message="the GPU", fix="")


class Pool:
    """Keeps what becomes of a trainer."""

    def __init__(self) -> None:
        self.fate: list[str] = []

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
