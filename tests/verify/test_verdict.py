from __future__ import annotations

import dataclasses
import itertools
import statistics

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.verify.verdict import Candidate, Verified, choose_candidates, judge

ARCHS = [f"{side}x{side}.resnet18-w4.fpn-p3-p5-c8.none.retina" for side in (32, 64, 96, 128, 160)]
REFERENCE = (60.0, 0.0)


def records(*points: tuple[float, float] | None) -> list[TrialRecord]:
    """A trial of each of ``ARCHS``; it failed if it has no point."""
    study = optuna.create_study(directions=["minimize", "maximize"])
    for arch, point in zip(ARCHS, points, strict=False):
        state = TrialState.FAIL if point is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, values=point, user_attrs={"arch": arch}))
    return read_records(study)


def verified(point: tuple[float, float], *aps: float, on_front: bool = True, number: int = 0) -> Verified:
    record = records(*[point] * (number + 1))[number]
    candidate = Candidate(record=record, on_front=on_front, baseline=not on_front)
    return Verified(candidate=candidate, aps=aps, test_aps=(), failed=0)


def names(candidates: list[Candidate]) -> list[int]:
    return [ARCHS.index(each.arch) for each in candidates]


def test_those_that_the_hypervolume_would_miss_most_are_chosen_fastest_first() -> None:
    trials = records((10.0, 0.1), (20.0, 0.4), (21.0, 0.41), (50.0, 0.8))

    # without it the area is less by 10 x 0.1, 1 x 0.3, 29 x 0.01 and 10 x 0.39
    assert names(choose_candidates(pareto_front(trials), trials, (), REFERENCE, 2)) == [0, 3]
    assert names(choose_candidates(pareto_front(trials), trials, (), REFERENCE, 9)) == [0, 1, 2, 3]


def test_baselines_are_there_once_on_the_front_or_not_unless_they_failed() -> None:
    trials = records((10.0, 0.1), (30.0, 0.05), (50.0, 0.8), None)

    found = choose_candidates(pareto_front(trials), trials, [ARCHS[number] for number in (1, 2, 3)], REFERENCE, 1)

    assert names(found) == [1, 2]
    assert [(each.on_front, each.baseline) for each in found] == [(False, True), (True, True)]
    assert [(each.latency_ms, each.search_ap) for each in found] == [(30.0, 0.05), (50.0, 0.8)]


def test_nothing_trained_is_no_candidate() -> None:
    assert choose_candidates([], records(None), ARCHS, REFERENCE, 3) == []


def test_means_and_deviations_are_those_of_the_seeds() -> None:
    (one,) = judge([verified((1.0, 0.2), 0.1, 0.25, 0.4)]).verified

    assert one.mean == pytest.approx(0.25)
    assert one.deviation == pytest.approx(0.15)
    assert one.test_mean is None
    assert one.test_deviation is None
    assert verified((1.0, 0.2), 0.1).deviation is None


def test_a_pair_whose_means_are_in_the_searchs_order_holds_beyond_the_noise_if_it_is_small() -> None:
    verdict = judge(
        [
            verified((1.0, 0.1), 0.10, 0.11, 0.12, number=0),
            verified((2.0, 0.2), 0.30, 0.31, 0.32, number=1),  # far above
            verified((3.0, 0.3), 0.305, 0.315, 0.325, number=2),  # above by half a deviation
            verified((4.0, 0.4), 0.30, 0.31, 0.31, number=3),  # below
            verified((5.0, 0.5), 0.10, 0.11, 0.12, number=4),  # far below
        ]
    )

    assert [(pair.holds, pair.beyond_noise) for pair in verdict.neighbours] == [
        (True, True),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert [ARCHS.index(pair.faster) for pair in verdict.neighbours] == [0, 1, 2, 3]
    assert [ARCHS.index(pair.slower) for pair in verdict.neighbours] == [1, 2, 3, 4]
    assert verdict.neighbours[0].difference == pytest.approx(0.2)


def test_only_members_of_the_front_are_neighbours_but_all_have_a_part_in_tau_and_spread() -> None:
    verdict = judge(
        [
            verified((1.0, 0.1), 0.1, 0.1, number=0),
            verified((2.0, 0.05), 0.02, 0.04, on_front=False, number=1),
            verified((3.0, 0.3), 0.3, 0.3, number=2),
        ]
    )

    assert [(ARCHS.index(pair.faster), ARCHS.index(pair.slower)) for pair in verdict.neighbours] == [(0, 2)]
    assert verdict.tau == 1.0
    assert verdict.num_compared == 3
    assert verdict.spread is not None
    assert verdict.spread.deviation == pytest.approx((0.0002 / 3) ** 0.5)
    assert verdict.spread.freedom == 3


def test_one_seed_has_an_order_but_tells_no_noise() -> None:
    verdict = judge([verified((1.0, 0.1), 0.3, number=0), verified((2.0, 0.2), 0.2, number=1)])

    assert verdict.tau == -1.0
    assert verdict.spread is None
    assert [(pair.holds, pair.beyond_noise) for pair in verdict.neighbours] == [(False, None)]


def test_the_spread_waits_for_the_second_seed_of_all_but_those_that_diverged() -> None:
    weak, strong = verified((1.0, 0.01), 0.01, 0.011, number=0), verified((2.0, 0.2), 0.2, number=1)

    assert judge([weak, strong]).spread is None
    assert judge([weak, dataclasses.replace(strong, failed=1)]).spread is not None


def test_what_has_no_training_yet_is_passed_over() -> None:
    trained = [verified((1.0, 0.1), 0.1, number=0), verified((3.0, 0.3), 0.3, number=2)]

    verdict = judge([trained[0], verified((2.0, 0.2), number=1), trained[1]])

    assert len(verdict.verified) == 3
    assert verdict.num_compared == 2
    assert len(verdict.neighbours) == 1


@pytest.mark.parametrize(("count", "means"), [(0, False), (2, False), (4, False), (5, True)])
def test_from_five_architectures_on_an_order_means_something(count: int, means: bool) -> None:
    verdict = judge([verified((1.0 + n, 0.1 * n), 0.1 * n, number=n) for n in range(count)])

    assert verdict.tau_means_something == means
    assert verdict.tau == (None if count < 2 else pytest.approx(1.0))


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=2, max_size=5))
def test_the_verdict_is_of_the_means(groups: list[list[float]]) -> None:
    verdict = judge([verified((1.0 + n, 0.1 + 0.1 * n), *group, number=n) for n, group in enumerate(groups)])

    means = [statistics.fmean(group) for group in groups]
    assert [pair.holds for pair in verdict.neighbours] == [b > a for a, b in itertools.pairwise(means)]
    assert (verdict.spread is None) == any(len(group) == 1 for group in groups)
    assert all(pair.chance is None or 0 <= pair.chance <= 1 for pair in verdict.neighbours)
