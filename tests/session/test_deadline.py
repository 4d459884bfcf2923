from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import pytest

from smnas_optuna.session.deadline import Deadline, clock_time

NOON = datetime(2025, 1, 1, 12).timestamp()


def test_the_share_that_is_done_and_the_end_by_the_clock() -> None:
    deadline = Deadline(at=NOON + 60, latest=NOON + 90, end=NOON + 900, total_s=3600)

    assert deadline.in_words(NOON) == "75 % · ends about 12:15"
    assert deadline.share_done(NOON - 1e6) == 0
    assert deadline.share_done(NOON + 901) == 1


@pytest.mark.parametrize(("hours", "words"), [(2, "14:00"), (13, "Thu 01:00"), (40, "Fri 04:00")])
def test_another_day_is_named(hours: float, words: str) -> None:
    assert clock_time(NOON + 3600 * hours, NOON) == words


def test_it_goes_to_workers_as_json() -> None:
    deadline = Deadline(at=1.5, latest=2.0, end=3.0, total_s=4.0)

    assert Deadline.from_json(asdict(deadline)) == deadline
    assert Deadline.from_json(None) is None
