from __future__ import annotations

import pytest

from smnas_optuna.campaign.ledger import PHASES, Phase
from smnas_optuna.campaign.shares import SHARES, Budget, modular_trainings, num_parents


def budget(total_s: float = 10_000.0, **spent: float) -> Budget:
    spent_s: dict[Phase, float] = {phase: spent.get(phase, 0.0) for phase in PHASES}
    return Budget(total_s=total_s, spent_s=spent_s, now=1e9)


def test_the_shares_are_a_whole() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert tuple(SHARES) == PHASES


def test_stage_1_has_its_share_and_what_it_spent_is_gone() -> None:
    assert budget().structural_s() == 4500
    assert budget(structural=4000).structural_s() == 500
    assert budget(structural=5000).structural_s() == 0
    assert budget(structural=1000, modular=8900).structural_s() == 10_000 - 9900 - 15


def test_a_larger_budget_gives_each_stage_more() -> None:
    assert budget(total_s=20_000, structural=4500, modular=4000, verification=1300).structural_s() == 4500


def test_stage_2_has_all_that_timing_and_verification_do_not_need() -> None:
    found = budget(structural=4000)

    assert found.left_s == 6000 - 15
    assert found.modular_s(100, 5000) == found.left_s - 200 - 1300, "each has at most its share"
    assert found.modular_s(600, 700) == found.left_s - 600 - 700, "timing has what it needs"
    assert found.modular_s(1100, 700) == found.left_s - 700, "timing that takes more than a tenth is left out"
    assert found.modular_s(100, None) == found.left_s - 200
    assert budget(structural=4000, modular=5900).modular_s(100, 5000) == 0


def test_the_time_of_the_report_is_kept() -> None:
    assert budget(total_s=360).left_s == pytest.approx(360 * 0.97)
    assert budget(total_s=36_000).left_s == 36_000 - 15


def test_a_training_that_is_longer_than_expected_ends_within_a_twentieth_and_the_last_one_within_less() -> None:
    found = budget(structural=4000)

    deadline = found.deadline(1000)
    assert (deadline.at, deadline.latest) == (1e9 + 1000, 1e9 + 1500)
    assert (deadline.end, deadline.total_s) == (1e9 + 6000, 10_000)
    assert found.deadline(5900).latest == 1e9 + 6000 - 15
    assert found.deadline(found.left_s, last=True).latest == 1e9 + 6000 - 15 + 300


@pytest.mark.parametrize(
    ("seconds", "trained", "workers", "trainings"),
    [(1010, 10, 1, 20), (1010, 10, 2, 40), (-9, 10, 2, 0), (100, 0, 1, 0)],
)
def test_trainings_of_stage_2_are_expected_to_take_as_long_as_those_of_stage_1(
    seconds: float, trained: int, workers: int, trainings: int
) -> None:
    assert modular_trainings(seconds, 500.0 * bool(trained), trained, workers) == trainings


@pytest.mark.parametrize(("trainings", "parents"), [(2, 1), (7, 1), (8, 2), (12, 3), (100, 3)])
def test_little_time_searches_inside_few_structures(trainings: int, parents: int) -> None:
    assert num_parents(trainings, 3) == parents
