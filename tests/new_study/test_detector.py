from __future__ import annotations

import numpy as np
import pytest

from smnas_optuna.new_study import detector as rules
from smnas_optuna.new_study.facts import Asked

from .made_facts import make_facts


def test_a_batch_follows_from_the_device_and_the_number_of_images() -> None:
    few, many = make_facts(num_images=200), make_facts(num_images=4000)

    assert rules.choose_batch_size(few, "cpu").value == rules.choose_batch_size(many, "cpu").value == 4
    assert rules.choose_batch_size(few, "cuda").value == 8
    assert rules.choose_batch_size(many, "cuda").value == 16
    assert "with 200 images" in rules.choose_batch_size(few, "cuda").because


def test_the_rate_is_the_measured_one_of_the_device() -> None:
    assert rules.choose_rate("cpu").value == 6e-3
    assert rules.choose_rate("cuda").value == 2e-3


@pytest.mark.parametrize(
    ("num_images", "batch_size", "hours", "longer", "epochs"),
    [
        (200, 4, 0.5, 1.0, 16),  # 800 steps
        (200, 4, 16.0, 1.0, 32),  # 1,600 steps: 32 times the hours are twice the steps
        (200, 4, 0.5, 3.0, 48),
        (800, 4, 0.5, 1.0, 6),  # 4 would be 800 steps
        (800, 4, 0.5, 0.75, 4),
        (1600, 4, 0.5, 1.0, 4),  # 6 would be more than 1,500 steps
        (20, 4, 0.5, 1.0, 60),  # no more
        (8, 4, 0.5, 1.0, 150),  # 300 steps
        (4, 4, 0.5, 1.0, 300),
        (1, 4, 0.5, 1.0, 300),
        (100_000, 16, 0.5, 1.0, 1),  # no less
        (200, 4, 10_000.0, 3.0, 60),
    ],
)
def test_epochs_make_the_steps_that_the_hours_allow(
    num_images: int, batch_size: int, hours: float, longer: float, epochs: int
) -> None:
    facts = make_facts(num_images=num_images, per_image=1)

    chosen = rules.choose_epochs(facts, Asked(hours=hours), batch_size, longer)

    assert chosen.value == epochs
    assert chosen.because.startswith(f"{num_images:,} images in batches of {batch_size}: ")


@pytest.mark.parametrize(
    ("per_image", "kind", "test", "train", "guided", "rpn", "roi", "kept"),
    [
        (10, "cpu", 100, 200, 100, 64, 32, 100),
        (10, "cuda", 300, 600, 150, 128, 128, 100),
        (40, "cpu", 200, 400, 100, 160, 80, 100),
        (100, "cuda", 400, 800, 200, 256, 384, 100),
        (400, "cpu", 1000, 2000, 500, 256, 128, 500),
    ],
)
def test_proposals_and_samples_follow_from_the_objects_of_an_image(
    per_image: int, kind: rules.Kind, test: int, train: int, guided: int, rpn: int, roi: int, kept: int
) -> None:
    facts = make_facts(num_images=40, per_image=per_image)

    assert rules.choose_test_proposals(facts, kind).value == test
    assert rules.choose_train_proposals(facts, kind).value == train
    assert rules.choose_guided_proposals(facts, kind).value == guided
    assert rules.choose_rpn_samples(facts, kind).value == rpn
    assert rules.choose_roi_samples(facts, kind).value == roi
    assert rules.choose_max_detections(facts).value == kept


def test_one_full_image_does_not_make_proposals_for_all() -> None:
    facts = make_facts(objects=np.array([5] * 999 + [900], np.int64))

    assert rules.choose_test_proposals(facts, "cpu").value == 100
    assert rules.choose_max_detections(facts).value == 1150
    assert rules.choose_max_detections(facts).because == "the fullest image has 900 objects"
