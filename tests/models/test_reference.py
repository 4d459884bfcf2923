from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.latency import measure_latency
from smnas_optuna.errors import ArchError
from smnas_optuna.models import REFERENCE_DETECTORS, ReferenceDetector, build_detector, build_reference_detector

from .tiny_detectors import NUM_CLASSES, make_batch, single

NAMES = tuple(REFERENCE_DETECTORS)
FEW = 50
"""Proposals of a detector that is not tested for its own number of them."""


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def detector(name: str) -> ReferenceDetector:
    """A detector with few proposals, and a threshold that some of its random scores pass; tests leave it unchanged."""
    torch.manual_seed(0)
    detector = build_reference_detector(name, NUM_CLASSES, long=64, short=48)
    model = detector.model
    if name == "retinanet_resnet50_fpn":
        model.score_thresh, model.detections_per_img = 0.0, 5  # type: ignore[assignment]
    else:
        nn.init.normal_(model.roi_heads.box_predictor.cls_score.bias)  # type: ignore[arg-type, union-attr]
        model.roi_heads.detections_per_img = 5  # type: ignore[union-attr]
        model.rpn._post_nms_top_n["testing"] = FEW  # type: ignore[index, operator, union-attr]
    return detector


@pytest.fixture(scope="module")
def without_weights(name: str) -> ReferenceDetector:
    """A detector for 96 x 60 px on the meta device; tests leave it unchanged."""
    with torch.device("meta"):
        return build_reference_detector(name, NUM_CLASSES, long=96, short=60)


def _whole(batch: Batch) -> Batch:
    """The images fill their canvas, and were given at that size."""
    sizes = torch.tensor([batch.images.shape[-2:]] * len(batch))
    return replace(batch, sizes=sizes, original_sizes=sizes)


def test_all_four_are_there() -> None:
    assert set(NAMES) == {
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_resnet101_fpn",
        "retinanet_resnet50_fpn",
        "maskrcnn_resnet50_fpn",
    }


@torch.inference_mode()
def test_detections_keep_the_contract(name: str, detector: ReferenceDetector) -> None:
    batch = make_batch()
    assert batch.images.dtype == torch.uint8

    found = detector.detect(batch)

    assert len(found) == len(batch)
    for detections, (height, width) in zip(found, batch.original_sizes.tolist(), strict=True):
        boxes, labels, scores = (detections[each] for each in ("boxes", "labels", "scores"))
        assert 0 < len(boxes) == len(labels) == len(scores) <= 5
        assert (scores.diff() <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert boxes.max() > 64  # pixels of the original images, which are twice as large
        if name.startswith("mask"):
            assert detections["masks"].shape == (len(boxes), 1, height, width)


@torch.inference_mode()
def test_detections_are_those_of_torchvisions_own_interface(name: str, detector: ReferenceDetector) -> None:
    """Of images at the input size, which torchvision's own resizing leaves alone."""
    batch = single(_whole(make_batch()), 0)
    few = {} if name.startswith("retina") else {"rpn_post_nms_top_n_test": FEW}
    with torch.device("meta"):  # its weights are replaced at once
        theirs = REFERENCE_DETECTORS[name](
            weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, min_size=64, max_size=64, **few
        ).eval()
    theirs.load_state_dict(detector.model.state_dict(), assign=True)
    for each in ("score_thresh", "detections_per_img"):
        own, its = (getattr(module, "roi_heads", module) for module in (detector.model, theirs))
        setattr(its, each, getattr(own, each))

    (mine,), (expected,) = detector.detect(batch), theirs([batch.images[0] / 255])

    assert set(mine) == set(expected)
    for part, value in expected.items():
        torch.testing.assert_close(mine[part], value)


@torch.inference_mode()
def test_only_the_image_on_the_canvas_is_looked_at(detector: ReferenceDetector) -> None:
    batch = make_batch()[:2]
    batch = replace(batch, sizes=torch.tensor([[32, 64]] * 2), original_sizes=torch.tensor([[32, 64]] * 2))
    images = batch.images.clone()
    images[:, :, 32:] = 7

    found, expected = detector.detect(replace(batch, images=images)), detector.detect(batch)

    for mine, its in zip(found, expected, strict=True):
        assert len(its["boxes"]) > 0
        assert all(torch.equal(mine[part], value) for part, value in its.items())


@pytest.mark.parametrize(
    ("height", "width", "canvas"),
    [(60, 96, (64, 96)), (33, 96, (64, 96)), (60, 61, (64, 96)), (96, 60, (96, 64)), (90, 20, (96, 64))],
    ids=["whole", "flat", "nearly square", "portrait", "narrow"],
)
@torch.inference_mode()
def test_the_backbone_sees_the_canvas_of_the_input_size(
    without_weights: ReferenceDetector, height: int, width: int, canvas: tuple[int, int]
) -> None:
    """That of 96 x 60, whatever the shape of the image on it, normalised as torchvision does it."""
    seen: list[torch.Tensor] = []

    class SeenError(Exception):
        pass

    def look(_module: nn.Module, arguments: tuple[torch.Tensor]) -> None:
        seen.append(arguments[0])
        raise SeenError

    given = torch.randint(0, 256, (1, 3, *canvas), dtype=torch.uint8)
    size = torch.tensor([[height, width]])
    batch = replace(single(make_batch(), 0), images=given, sizes=size, original_sizes=size)

    with without_weights.model.backbone.register_forward_pre_hook(look), pytest.raises(SeenError):  # type: ignore[union-attr]
        without_weights.detect(batch)

    (images,) = seen
    assert images.shape == (1, 3, *canvas)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(images[0, :, :height, :width], ((given[0] / 255 - mean) / std)[:, :height, :width])
    assert images[:, :, height:].abs().sum() == images[:, :, :, width:].abs().sum() == 0


@pytest.mark.slow
@torch.inference_mode()
def test_at_a_threshold_of_0_post_processing_is_at_its_caps(name: str) -> None:
    """As in a trained detector there are more than enough proposals, in a deep backbone, too."""
    torch.manual_seed(0)
    detector = build_reference_detector(name, 20, long=160, short=128, score_threshold=0.0)
    size = torch.tensor([[128, 160]])
    images = torch.randint(0, 256, (1, 3, 128, 160), dtype=torch.uint8)
    proposals: list[int] = []
    if not name.startswith("retina"):
        detector.model.rpn.register_forward_hook(lambda *call: proposals.append(len(call[2][0][0])))  # type: ignore[union-attr]

    (found,) = detector.detect(replace(single(make_batch(), 0), images=images, sizes=size, original_sizes=size))

    assert proposals == [] if name.startswith("retina") else proposals[0] > 500
    assert len(found["boxes"]) == (300 if name.startswith("retina") else 100)


@pytest.mark.slow
def test_it_is_timed_beside_ours(detector: ReferenceDetector) -> None:
    batch = single(make_batch(), 0)
    ours = build_detector(decode("64x48.resnet18-w4.fpn-p4-p5-c4.none.retina"), NUM_CLASSES)
    settings = LatencySettings(images=1, precision=0.5, max_seconds=0.1)

    stats = measure_latency(ours, [batch], detector, [batch], settings)

    assert 0 < stats.ratio < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("fasterrcnn_resnet50_fpn", "128x96.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        ("fasterrcnn_resnet101_fpn", "128x96.resnet101-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        ("retinanet_resnet50_fpn", "128x96.resnet50-w64.fpn-p3-p7-c256-convp5.none.retina"),
    ],
)
def test_its_work_is_that_of_ours(name: str, arch: str) -> None:
    with torch.device("meta"):
        theirs = build_reference_detector(name, 80, long=128, short=96)
        ours = build_detector(decode(arch), 80, DetectorConstants(norm="bn"))

    counts = [count_complexity(each, long=128, short=96) for each in (theirs, ours)]

    # RetinaNet: torchvision has a class 0 as well, a 3x3 convolution for each of 9 anchors a place
    extra = 256 * 9 * 9 if name.startswith("retina") else 0
    places = sum((128 * 96) // 4**level for level in range(3, 6)) + 2 * 2 + 1 * 1  # p6 of 4 x 3 is 2 x 2
    assert counts[0].multiply_adds - counts[1].multiply_adds == extra * places
    assert counts[0].num_params - counts[1].num_params == extra + (9 if extra else 0)


def test_masks_are_counted() -> None:
    with torch.device("meta"):
        mask, box = (
            count_complexity(build_reference_detector(f"{name}_resnet50_fpn", 80, long=64, short=64), long=64, short=64)
            for name in ("maskrcnn", "fasterrcnn")
        )

    # 100 detections: four 3x3 convolutions on 14 x 14 places, one 2x2 transposed, and 81 masks of 28 x 28
    layers = 4 * 256**2 * 9 * 14**2 + 256**2 * 4 * 14**2 + 256 * 81 * 28**2
    assert mask.multiply_adds - box.multiply_adds == 100 * layers


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ArchError) as refusal:
        build_reference_detector("ssd300_vgg16", 3, long=64, short=48)

    assert str(refusal.value) == (
        "reference detector: 'ssd300_vgg16' is not known\n"
        "  fix: take one of fasterrcnn_resnet101_fpn, fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, "
        "retinanet_resnet50_fpn"
    )


def test_classes_are_counted_without_background() -> None:
    with torch.device("meta"):
        two_stage = build_reference_detector("fasterrcnn_resnet50_fpn", 20, long=64, short=48)

    assert two_stage.model.get_parameter("roi_heads.box_predictor.cls_score.bias").shape == (21,)
    assert not two_stage.training
