from __future__ import annotations

import json
import math
from dataclasses import dataclass

import optuna

from smnas_optuna.study.attributes import json_values, store_attrs


@dataclass(frozen=True)
class Inner:
    loads: tuple[int, ...]


@dataclass(frozen=True)
class Stats:
    ratio: float
    network_ms: float
    runs: int
    inner: Inner | None


def test_what_could_not_be_measured_is_null() -> None:
    values = json_values(Stats(ratio=1.5, network_ms=math.nan, runs=3, inner=Inner(loads=(1, 2))))

    assert json.loads(json.dumps(values, allow_nan=False)) == {
        "ratio": 1.5,
        "network_ms": None,
        "runs": 3,
        "inner": {"loads": [1, 2]},
    }
    assert json_values(Stats(ratio=0.0, network_ms=2.0, runs=0, inner=None)) == {
        "ratio": 0.0,
        "network_ms": 2.0,
        "runs": 0,
        "inner": None,
    }


def test_attributes_are_stored_under_their_names_and_replace_earlier_ones() -> None:
    trial = optuna.create_study().ask()

    store_attrs(trial, {"arch": "a", "epochs_done": 0})
    store_attrs(trial, {"epochs_done": 1})

    assert trial.user_attrs == {"arch": "a", "epochs_done": 1}
