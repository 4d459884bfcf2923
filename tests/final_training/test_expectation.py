from __future__ import annotations

import math

import pytest

from smnas_optuna.final_training.expectation import Evidence, Expectation, Point, expect, seed_interval

SPREAD = 0.01


def evidence(
    searched: Point | None = (6, 0.2), retrained: tuple[Point, ...] = (), gains: tuple[Point, ...] = ()
) -> Evidence:
    return Evidence(searched=searched, retrained=retrained, gains=gains, spread=SPREAD)


def told(found: Expectation | None) -> Expectation:
    assert found is not None
    return found


def test_nothing_is_expected_of_what_the_study_does_not_know() -> None:
    assert expect(evidence(searched=None), 30) is None
    assert expect(evidence(searched=None, gains=((12, 0.1),)), 30) is None


def test_the_searchs_ap_is_expected_give_or_take_two_seeds() -> None:
    found = told(expect(evidence(), 30))

    assert (found.ap, found.epochs) == (0.2, 6)
    assert found.high - 0.2 == pytest.approx(1.96 * SPREAD * math.sqrt(2))
    assert found.in_words(30) == (
        "expected AP (x100) on the validation images: 20.0 (17.2-22.8 for 95 % of seeds), by the search's training of "
        "6 epochs; this training has 30, which is more, so that its AP is as a rule higher"
    )


def test_longer_trainings_of_the_same_detector_say_more() -> None:
    found = told(expect(evidence(retrained=((12, 0.3), (12, 0.32), (12, 0.34), (48, 0.4)), gains=((12, 0.9),)), 30))

    assert found.ap == pytest.approx(0.32)
    assert found.high - found.ap == pytest.approx(1.96 * SPREAD * math.sqrt(1 + 1 / 3))
    assert (found.epochs, found.source) == (12, "3 trainings of smnas verify with 12 epochs")


def test_without_fewer_epochs_more_epochs_speak() -> None:
    found = told(expect(evidence(retrained=((48, 0.4), (60, 0.5))), 30))

    assert (found.ap, found.epochs) == (0.4, 48)
    assert found.in_words(30).endswith("this training has 30, which is fewer, so that its AP is as a rule lower")
    assert found.in_words(48, "test") == (
        "expected AP (x100) on the test images: 40.0 (37.2-42.8 for 95 % of seeds), by 1 training of smnas verify with "
        "48 epochs"
    )


def test_what_others_gained_is_added_and_widens_the_interval() -> None:
    found = told(expect(evidence(gains=((12, 0.1), (12, 0.2), (48, 0.4))), 30))

    assert found.ap == pytest.approx(0.35)
    assert found.high - found.ap == pytest.approx(1.96 * math.sqrt(2 * SPREAD**2 + 0.005))
    assert found.source == (
        "the search's 20.0 after 6 epochs, and what 2 other detectors gained in smnas verify with 12 epochs"
    )


def test_shares_stay_shares() -> None:
    found = told(expect(evidence(searched=(6, 0.99), gains=((12, 0.5),)), 30))

    assert (found.ap, found.high) == (1.0, 1.0)
    assert seed_interval(0.0, 0.1)[0] == 0.0
    assert seed_interval(0.5, 0.1) == pytest.approx((0.5 - 0.196 * math.sqrt(2), 0.5 + 0.196 * math.sqrt(2)))
