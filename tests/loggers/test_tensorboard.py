from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smnas_optuna.errors import ConfigError
from smnas_optuna.loggers import TensorBoardLogger

from .events import ARCH, SEARCH, SEARCHED, TRAINING


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside tensorboard
def test_the_curves_are_those_of_the_events(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    for event in (*SEARCH, *TRAINING):
        logger(event)

    def curves(run: str) -> dict[str, list[tuple[int, float]]]:
        stored = EventAccumulator(str(tmp_path / run)).Reload()
        return {name: [(each.step, each.value) for each in stored.Scalars(name)] for name in stored.Tags()["scalars"]}

    assert sorted(path.name for path in tmp_path.iterdir()) == [SEARCHED, ARCH]
    searched = curves(SEARCHED)
    assert searched["loss"] == [(1, 0.75)]
    assert searched["ap"] == [(1, 0.25), (2, 0.5)]
    assert searched["latency_ms"] == [(2, 7.5)]
    assert "ap75" not in searched
    training = curves(ARCH)
    assert training["loss"] == [(1, 0.5)]
    assert [(step, round(value, 6)) for step, value in training["ap"]] == [(2, 0.6)]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ConfigError, match=r"(?s)TensorBoard is not installed.*smnas-optuna\[tensorboard\]"):
        TensorBoardLogger(tmp_path)
