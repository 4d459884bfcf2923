from __future__ import annotations

from collections.abc import Sequence

import pytest

from smnas_optuna.campaign.choice import MOST_SEEDS, choose_selection
from smnas_optuna.verify.results import Key
from smnas_optuna.verify.verdict import Candidate

from ..report.report_studies import FAST, POOR, full_study
from ..report.verifications import summary

FRONT = 3
"""Members of the front of :func:`full_study`; the baseline POOR is not among them."""


def candidates(top: int) -> list[Candidate]:
    from smnas_optuna.verify.verdict import choose_candidates

    found = summary()
    return choose_candidates(found.front, found.records, [POOR], found.reference, top)


def seconds_of(keys: Sequence[Key]) -> float:
    return 10.0 * len(keys)


@pytest.mark.parametrize(
    ("left_s", "archs", "on_front", "seeds"),
    [
        (1e9, 4, 3, MOST_SEEDS),
        (165, 4, 3, 4),
        (120, 4, 3, 3),
        (119, 3, 2, 3),
        (89, 4, 3, 2),
        (79, 3, 2, 2),
        (45, 4, 3, 1),
        (35, 3, 2, 1),
        (25, 2, 2, 1),
        (12, 1, 1, 1),
    ],
)
def test_as_much_is_verified_as_fits(left_s: float, archs: int, on_front: int, seeds: int) -> None:
    selection = choose_selection(candidates, FRONT, seconds_of, 8, left_s)

    assert selection is not None
    assert (len(selection.archs), selection.seeds) == (archs, seeds)
    assert sum(each.on_front for each in selection.candidates) == on_front
    assert selection.seconds == 10.0 * archs * seeds <= left_s


@pytest.mark.parametrize(("left_s", "archs", "seeds"), [(65, 2, 3), (45, 2, 2), (25, 2, 1), (15, 1, 1)])
def test_a_front_of_one_member_is_verified_beside_its_baseline(left_s: float, archs: int, seeds: int) -> None:
    selection = choose_selection(candidates, 1, seconds_of, 8, left_s)

    assert selection is not None
    assert (len(selection.archs), selection.seeds) == (archs, seeds)


def test_no_more_than_three_trainings_of_each_are_wished_for() -> None:
    selection = choose_selection(candidates, FRONT, seconds_of, 8, 1e9, most_seeds=3)

    assert selection is not None
    assert selection.seconds == 10.0 * 4 * 3


def test_long_trainings_go_first_and_too_little_time_verifies_nothing() -> None:
    selection = choose_selection(candidates, FRONT, seconds_of, 8, 130)

    assert selection is not None
    assert selection.archs[-1] == FAST
    assert choose_selection(candidates, FRONT, seconds_of, 8, 9) is None
    assert len(full_study().trials) == 9
