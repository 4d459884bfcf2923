from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smnas_optuna.final_training.record import Plan, TrainingRecord, read_training
from smnas_optuna.final_training.schedule import Pace
from smnas_optuna.final_training.settle import Anew, Following, Settling, epochs_that_fit

from .trainings import ARCH

PACE = Pace(epoch_s=360.0, evaluation_s=0.0, end_s=0.0)
"""Ten epochs an hour."""


def plan(epochs: int = 10, hours: float | None = 1.0) -> Plan:
    return Plan(arch=ARCH, epochs=epochs, hours=hours, with_val=False, seed=0)


@pytest.mark.parametrize(
    ("epochs", "seconds", "evaluation_s", "fitting"),
    [
        (10, [36.0], None, None),  # a hundredth of the time
        (10, [50.0, 36.0, 36.0], None, 96),
        (10, [90.0, 36.0], None, None),  # the first one does not count
        (10, [360.0], None, 10),
        (7, [525.0], None, 7),  # the whole hour is enough for 6
        (10, [420.0, 360.0], None, 10),
        (10, [1800.0], None, 1),
        (10, [9000.0], None, 1),
        (1, [36.0], None, 99),
        (10, [300.0], 30.0, 10),
        (10, [300.0], 60.0, 10),
        (10, [500.0], 60.0, 5),
    ],
)
def test_the_epochs_that_fit_follow_from_what_was_trained(
    epochs: int, seconds: list[float], evaluation_s: float | None, fitting: int | None
) -> None:
    assert epochs_that_fit(plan(epochs), PACE, seconds, evaluation_s) == fitting


class Told:
    """Process 0 as the others hear it."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def announce(self, value: object) -> object:
        self.said.append(value)
        return value


def settling(place: Path, told: Told | None = None, pace: Pace | None = PACE) -> tuple[Settling, list[str]]:
    record, notes = TrainingRecord(plan=plan(), about={}, expected=None, outcome=None, pace=pace), list[str]()
    return Settling(record, place, cast("Any", told), notes.append), notes


def test_a_number_that_is_about_right_stays(tmp_path: Path) -> None:
    told = Told()
    made, notes = settling(tmp_path, told)

    made.end_epoch([20.0], None)
    made.end_epoch([330.0] * 2, None)
    made.end_epoch([330.0, 330.0, 1.0], None)

    assert (made.record.plan, made.record.pace, notes) == (plan(), None, [])
    assert told.said == [(False, False), (False, True)]
    assert read_training(tmp_path) == made.record


def test_a_number_that_is_wrong_is_stored_and_the_training_begins_anew(tmp_path: Path) -> None:
    told = Told()
    made, notes = settling(tmp_path, told)

    with pytest.raises(Anew):
        made.end_epoch([95.0, 90.0], None)

    assert (made.record.plan.epochs, made.record.pace) == (37, None)
    assert read_training(tmp_path) == made.record
    assert told.said == [(True, True)]
    assert notes == [
        "an epoch takes 90 s, and not 6 min: it begins anew with 37 epochs, as many as fit into what is left of 1 h"
    ]


def test_a_training_without_hours_has_nothing_to_settle(tmp_path: Path) -> None:
    told = Told()
    made, _ = settling(tmp_path, told, pace=None)

    made.end_epoch([9000.0], None)

    assert (told.said, list(tmp_path.iterdir())) == ([], [])


def test_the_others_hear_it_until_it_is_settled() -> None:
    said: list[object] = [(False, False), (False, True)]
    ranks = cast("Any", SimpleNamespace(announce=lambda _: said.pop(0)))
    following = Following(False, ranks)

    for _ in range(3):
        following.end_epoch()

    assert said == []
    said.append((True, True))
    with pytest.raises(Anew):
        Following(False, ranks).end_epoch()
