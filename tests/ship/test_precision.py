from __future__ import annotations

import pytest

from smnas_optuna.errors import FileError
from smnas_optuna.ship.precision import Trial, check_trial
from smnas_optuna.ship.timing import Pace


def trial(*, ap: float = 0.39, ms: float = 1.5) -> Trial:
    return Trial(precision="int8", ap=ap, fp32_ap=0.4, pace=Pace(ms=ms, reference_ms=2.0, ratio=ms / 2, threads=1))


def test_a_faster_file_within_the_spread_is_allowed() -> None:
    check_trial(trial(), ap_spread=0.02)
    check_trial(trial(ap=0.41), ap_spread=0.0)


def test_a_file_that_loses_more_than_seeds_differ_by_is_refused() -> None:
    with pytest.raises(FileError) as caught:
        check_trial(trial(ap=0.37), ap_spread=0.02)

    assert caught.value.message == (
        "int8: AP 37.0 (x100) at 1.5 ms, fp32 40.0 at 2 ms; it loses 3.0, and seeds differ by 2.0"
    )
    assert "--allow-loss" in caught.value.fix


def test_a_file_that_is_no_faster_is_refused() -> None:
    with pytest.raises(FileError, match=r"AP 39.0 \(x100\) at 2.1 ms, fp32 40.0 at 2 ms; it is no faster"):
        check_trial(trial(ms=2.1), ap_spread=0.02)
