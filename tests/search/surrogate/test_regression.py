from __future__ import annotations

import numpy as np
import pytest

from smnas_optuna.search.surrogate.regression import Array, Surrogate


def grid(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Inputs with one important, one weak and one constant feature, and their targets."""
    random = np.random.default_rng(seed)
    inputs = np.column_stack([random.random((count, 2)) * [10.0, 1.0], np.full(count, 7.0)])
    return inputs, 0.3 * np.sin(inputs[:, 0] / 2) + 0.02 * inputs[:, 1] + 0.4


def test_a_smooth_function_is_learnt() -> None:
    inputs, targets = grid(60)
    new, truth = grid(50, seed=1)
    surrogate = Surrogate(0.001)

    surrogate.fit(inputs, targets, new, refit=True)
    mean, deviation = surrogate.predict(new)

    assert np.abs(mean - truth).max() < 0.03
    assert deviation.max() < 0.1
    assert np.all(np.abs(mean - truth) < 5 * deviation)


def test_predictions_are_of_new_trainings_with_their_noise() -> None:
    inputs, targets = grid(40)
    surrogate = Surrogate(0.05)

    surrogate.fit(inputs, targets, inputs, refit=True)

    assert surrogate.predict(inputs)[1].min() >= 0.05


def test_who_is_far_from_all_data_is_uncertain() -> None:
    inputs, targets = grid(30)
    near, far = inputs[:1], np.array([[30.0, 0.5, 7.0]])
    surrogate = Surrogate(0.001)

    surrogate.fit(inputs, targets, np.concatenate([near, far]), refit=True)
    deviation = surrogate.predict(np.concatenate([near, far]))[1]

    assert deviation[1] > 5 * deviation[0]


def test_hyperparameters_stay_until_a_refit() -> None:
    inputs, targets = grid(30)
    more_inputs, more_targets = grid(60, seed=2)
    surrogate = Surrogate(0.001)
    surrogate.fit(inputs, targets, more_inputs, refit=True)
    before = surrogate.hyperparameters.copy()

    surrogate.fit(more_inputs, more_targets, more_inputs, refit=False)
    assert np.array_equal(surrogate.hyperparameters, before)
    surrogate.fit(more_inputs, more_targets, more_inputs, refit=True)
    assert not np.array_equal(surrogate.hyperparameters, before)


def test_a_feature_that_begins_to_vary_refits() -> None:
    inputs, targets = grid(30)
    surrogate = Surrogate(0.001)
    surrogate.fit(inputs, targets, inputs, refit=True)
    inputs[:10, 2] = 8.0

    surrogate.fit(inputs, targets, inputs, refit=False)

    assert len(surrogate.hyperparameters) == 2 + 3, "amplitude, noise, and a length for each feature"


@pytest.mark.parametrize("count", [1, 2])
def test_few_points_are_enough(count: int) -> None:
    inputs, targets = grid(count)
    surrogate = Surrogate(0.01)

    surrogate.fit(inputs, targets, grid(20)[0], refit=True)
    mean, deviation = surrogate.predict(inputs)

    assert mean == pytest.approx(targets, abs=0.2)
    assert np.all(np.isfinite(deviation))


def test_inputs_that_are_all_the_same_give_the_mean() -> None:
    inputs, targets = np.ones((4, 3)), np.array([0.1, 0.2, 0.3, 0.2])
    surrogate = Surrogate(0.01)

    surrogate.fit(inputs, targets, inputs, refit=True)

    assert surrogate.predict(inputs)[0] == pytest.approx(0.2, abs=0.01)


def test_targets_that_are_all_the_same_are_predicted() -> None:
    inputs, _ = grid(10)
    surrogate = Surrogate(0.01)

    surrogate.fit(inputs, np.full(10, 0.3), inputs, refit=True)

    assert surrogate.predict(inputs)[0] == pytest.approx(0.3, abs=0.01)


def test_targets_that_are_no_numbers_are_refused() -> None:
    inputs, targets = grid(10)
    targets[3] = np.nan

    with pytest.raises(ValueError, match="NaN"):
        Surrogate(0.01).fit(inputs, targets, inputs, refit=True)
