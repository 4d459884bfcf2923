from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from smnas_optuna.arch import BASELINES, DetectorConstants, InputSize, decode, encode
from smnas_optuna.benchmark.detectors import our_detector, parse_sizes, studied_detector, torchvision_detectors
from smnas_optuna.config import load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.engine.checkpoint import save_weights
from smnas_optuna.errors import ArchError, CheckpointError
from smnas_optuna.models import REFERENCE_DETECTORS, Detector, ReferenceDetector
from smnas_optuna.models.detections import Selection
from smnas_optuna.session.prepare import load_data
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder

ARCH = "64x48.resnet18-w4.fpn-p4-p5-c4.rpn.fc-w8"
CPU = torch.device("cpu")


def detector_of(module: nn.Module) -> Detector:
    assert isinstance(module, Detector)
    return module


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.fixture
def testbed(study_dir: Path) -> Testbed:
    settings = load_settings(study_dir)
    _, splits = load_data(StudyFolder(study_dir), None, settings, lambda *_: None)
    caches = CachePool(study_dir / "cache", lambda _: None)
    return Testbed(settings=settings, splits=splits, caches=caches, device=CPU)


def test_without_a_study_ours_are_the_papers_with_random_weights() -> None:
    timed = our_detector(ARCH, 80, CPU)
    torch.manual_seed(1)
    one = timed.build()
    torch.manual_seed(2)
    other = timed.build()

    assert (timed.name, timed.arch, timed.weights) == (ARCH, ARCH, "random")
    assert timed.input_size == InputSize(long=64, short=48)
    head = detector_of(one).head.roi_head
    assert isinstance(head, nn.Module)
    selection = head.selection
    assert isinstance(selection, Selection)
    assert selection.score_threshold == timed.score_threshold == 0
    assert selection.max_detections == DetectorConstants().max_detections
    assert equal(one, other), "the same detector each time"


def test_a_name_stands_for_its_string() -> None:
    timed = our_detector("sm_nas_e2", 80, CPU)

    assert (timed.name, timed.arch) == ("sm_nas_e2", encode(BASELINES["sm_nas_e2"]))
    assert timed.input_size == InputSize(long=800, short=600)


def test_weights_that_a_study_has_kept_are_taken_with_its_threshold(study_dir: Path, testbed: Testbed) -> None:
    trained = testbed.build(decode(ARCH), seed=7)
    folder = StudyFolder(study_dir).run(ARCH)
    save_weights(folder, trained, {})

    timed = studied_detector(ARCH, testbed, StudyFolder(study_dir))
    built = timed.build()

    assert (timed.weights, timed.score_threshold) == ("trained", 0.01)
    assert equal(built, trained)
    assert detector_of(built).head.roi_head.selection.score_threshold == 0.01  # type: ignore[union-attr]


def test_a_detector_that_a_study_has_no_weights_of_is_random_at_its_caps(study_dir: Path, testbed: Testbed) -> None:
    timed = studied_detector(ARCH, testbed, StudyFolder(study_dir))
    head = detector_of(timed.build()).head.roi_head

    assert (timed.weights, timed.score_threshold) == ("random", 0.0)
    assert head.selection.score_threshold == 0.0  # type: ignore[union-attr]
    assert head.num_proposals == 30  # type: ignore[union-attr]  # the study's


def test_damaged_weights_are_refused(study_dir: Path, testbed: Testbed) -> None:
    folder = StudyFolder(study_dir).run(ARCH)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text("none")

    timed = studied_detector(ARCH, testbed, StudyFolder(study_dir))

    with pytest.raises(CheckpointError, match=r"weights\.safetensors: the weights are damaged or incomplete"):
        timed.build()


def test_torchvisions_are_there_at_every_size_under_names_of_their_own() -> None:
    sizes = [InputSize(long=64, short=64), InputSize(long=96, short=64)]

    timed_detectors = torchvision_detectors(sizes, 5, CPU)

    assert [each.name for each in timed_detectors] == [
        f"{size}.{name}" for size in sizes for name in REFERENCE_DETECTORS
    ]
    assert {(each.arch, each.weights, each.score_threshold) for each in timed_detectors} == {(None, "random", 0.0)}
    built = timed_detectors[4].build()
    assert isinstance(built, ReferenceDetector)
    assert (built.long, built.short) == (96, 64)
    roi_heads = built.get_submodule("model.roi_heads")
    assert roi_heads.score_thresh == 0.0
    assert roi_heads.get_parameter("box_predictor.cls_score.bias").shape == (6,)


def test_sizes_are_read_once_each() -> None:
    assert parse_sizes("800x600, 512x512,800x600") == [InputSize(long=800, short=600), InputSize(long=512, short=512)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("512", "--sizes 512: input size '512' cannot be read"),
        ("512x512,", "--sizes 512x512,: input size '' cannot be read"),
        ("600x800", "--sizes 600x800: input size 600x800: 32 <= short <= long <= 4096 must hold"),
    ],
)
def test_sizes_that_cannot_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(ArchError) as refusal:
        parse_sizes(text)

    assert str(refusal.value).startswith(f"{message}\n  fix: write ")
    assert str(refusal.value).endswith("; several as 512x512,800x600")
