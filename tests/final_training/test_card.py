from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.final_training.card import accuracy_lines, card, latency_lines
from smnas_optuna.final_training.place import OTHERS_GAIN

from .trainings import ARCH, outcome, plan, training

STUDY = Path("studies") / "my study"


def test_a_card_says_what_the_detector_is_and_how_good() -> None:
    lines = card(STUDY, "mine", training(out=outcome())).splitlines()

    for line in (
        "# mine",
        f"A detector of the study `my study`: `{ARCH}`.",
        "- 1,000 images with 2,000 boxes for training",
        "- 12 images with 30 boxes for validation",
        "- 2 classes: cat, dog",
        "- from scratch, 30 epochs in 2 min; `curve.json` and `curve.png` have loss and AP",
        "- batch_size: 8",
        "- scale_jitter: 0.8 to 1.25",
        "- seed: 7",
        "- AP (x100) 50.0 on the validation images; 95 % of trainings with other seeds have 47.2 to 52.8, as APs of "
        "seeds have a standard deviation of 1.0",
        "- there are few validation images: on others like them it would be between 25.0 and 75.0 (95 %)",
        "- the weights are those after epoch 24 of 30, the best on the validation images, whose AP flatters a little "
        "for that; AP after the last epoch: 48.0",
        f"- on the front: no other member is as fast and as accurate, and it beats 1 of them in both; {OTHERS_GAIN}",
        "| x100 | validation |",
        "| AP | 50.0 |",
        "| AR of large objects | - |",
        "- 12 ms on the scale of the study (95 %: 11.5 to 12.5 ms), one image at a time, from pixels to boxes",
        "- 0.5 times the reference detector: 10 ms beside 20 ms in this measurement (onnxruntime)",
        "- device: kind cpu, model A CPU, threads 2",
        "- at most 100 detections in an image, with scores of at least 0.01",
        "- no test images: its AP is on images that chose it, and no figure for a publication",
        "smnas evaluate 'studies/my study' --trained mine --on val",
        "smnas export 'studies/my study' --trained mine",
        "smnas predict image.jpg --detector 'studies/my study/trained/mine'",
        "torch 2.14",
    ):
        assert line in lines


def test_trained_on_validation_images_only_the_test_images_count() -> None:
    record = training(plan(with_val=True), out=outcome(None, test_ap=0.4, epoch=30), test_images=40)
    text = card(STUDY, "mine", record)

    assert "- 40 images with 80 boxes for test\n" in text
    assert text.count("smnas evaluate") == text.count("--trained mine --on test\n") == 1
    assert "- trained on the images for training and for validation together\n" in text
    assert "- AP (x100) 40.0 on the test images; 95 % of trainings with other seeds" in text
    assert "- before it began: expected AP (x100) on the test images: 40.0" in text
    assert "- the validation images were trained on, so that only the test images tell how good it is\n" in text
    assert "| x100 | test |\n" in text
    assert " --on test\n" in text
    assert "on the front" not in text
    assert "no test images" not in text


def test_an_imprecise_latency_is_an_upper_end() -> None:
    out = outcome()
    out = replace(out, latency=replace(out.latency, ms=12.5, low_ms=10.0, high_ms=12.5))

    assert latency_lines(out)[:2] == [
        "at most 12.5 ms on the scale of the study (95 %: 10 to 12.5 ms), one image at a time, from pixels to boxes",
        "that is imprecise, so that the upper end counts; something else worked on this machine",
    ]


@pytest.mark.parametrize(("ap", "told"), [(0.34, True), (0.36, False)])
def test_an_ap_below_all_that_was_expected_is_told(ap: float, told: bool) -> None:
    lines = accuracy_lines(training(out=outcome(ap)))  # 0.35 to 0.45 were expected

    assert ("its AP is below all that was expected" in lines) == told


def test_a_latency_of_another_device_is_named_as_that() -> None:
    out = outcome()
    out = replace(out, latency=replace(out.latency, ms=None, low_ms=None, high_ms=None))

    assert latency_lines(out)[0] == "no place on the scale of the study, which was made on another device"
    assert accuracy_lines(training(out=out))[-1].endswith("(by the latency that the search has measured)")


def test_epochs_that_followed_from_hours_are_told_with_them() -> None:
    text = card(STUDY, "mine", training(plan(hours=0.5), out=replace(outcome(), skipped_steps=3)))

    assert "- from scratch, 30 epochs (as many as fit into 0.5 h) in 2 min, 3 steps skipped; " in text
