from __future__ import annotations

import pytest

from smnas_optuna.final_training.schedule import MOST_EPOCHS, MOST_EVALUATIONS, Pace, evaluation_epochs


@pytest.mark.parametrize(
    ("epochs", "evaluated"),
    [(1, [1]), (3, [1, 2, 3]), (21, [*range(2, 21, 2), 21]), (60, [*range(3, 61, 3)])],
)
def test_a_training_is_evaluated_evenly_and_at_its_end(epochs: int, evaluated: list[int]) -> None:
    assert sorted(evaluation_epochs(epochs)) == evaluated


def test_no_training_is_evaluated_more_often_than_twenty_times() -> None:
    for epochs in range(1, 500):
        evaluated = evaluation_epochs(epochs)
        assert len(evaluated) <= MOST_EVALUATIONS
        assert max(evaluated) == epochs


@pytest.mark.parametrize(
    ("hours", "epochs"),
    [(0.0, 1), (1 / 3600, 1), (130 / 3600, 1), (241 / 3600, 2), (1.0, 33), (1e9, MOST_EPOCHS)],
)
def test_as_many_epochs_are_trained_as_fit_and_at_least_one(hours: float, epochs: int) -> None:
    pace = Pace(epoch_s=100.0, evaluation_s=10.0, end_s=20.0)

    assert pace.epochs_within(3600 * hours) == epochs


@pytest.mark.parametrize("seconds", [200, 1_000, 5_000, 77_777])
def test_what_is_trained_ends_in_time_and_one_more_epoch_would_not(seconds: float) -> None:
    pace = Pace(epoch_s=13.0, evaluation_s=17.0, end_s=29.0)
    epochs = pace.epochs_within(seconds)

    assert pace.total_s(epochs) <= seconds
    assert (epochs + 1) * 13.0 + min(epochs + 1, MOST_EVALUATIONS) * 17.0 + 29.0 > seconds


def test_the_time_is_told_with_what_it_is_made_of() -> None:
    pace = Pace(epoch_s=100.0, evaluation_s=10.0, end_s=20.0)

    assert pace.in_words(40) == "time: about 1 h 10 min at this moment's pace: epochs of 2 min, 20 evaluations of 10 s"
    assert (
        Pace(epoch_s=1.0, evaluation_s=0.0, end_s=2.0).in_words(3)
        == "time: about 5.0 s at this moment's pace: epochs of 1.0 s"
    )
