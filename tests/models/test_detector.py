from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smnas_optuna.arch import decode
from smnas_optuna.batch import Batch
from smnas_optuna.engine.checkpoint import load_weights, save_weights
from smnas_optuna.models import Detector, fold_weight_standardization

from .tiny_detectors import ARCHS, CONSTANTS, NUM_CLASSES, ONE_STAGE, build, make_batch, spread_predictions, targets

# (height, width): both orientations, odd, square, enlarged, thin in either direction
SIZES = [(96, 128), (128, 96), (33, 71), (201, 47), (50, 50), (7, 9), (2, 200), (200, 3), (1, 1)]

kinds = pytest.mark.parametrize("arch", ARCHS, ids=["one_stage", "two_stage"])


def _images(sizes: list[tuple[int, int]] = SIZES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def _ready(arch: str) -> Detector:
    detector = build(arch).eval()
    spread_predictions(detector)
    return detector


def _assert_same(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], atol: float = 1e-3) -> None:
    assert sum(len(each["boxes"]) for each in expected) > 0  # there is something to compare
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine["boxes"], its["boxes"], atol=atol, rtol=0)
        torch.testing.assert_close(mine["scores"], its["scores"], atol=1e-4, rtol=0)
        assert torch.equal(mine["labels"], its["labels"])


@kinds
@torch.inference_mode()
def test_detections_keep_the_contract(arch: str) -> None:
    found = _ready(arch)(_images())

    assert len(found) == len(SIZES)
    assert sum(len(each["boxes"]) for each in found) > 0
    for detections, (height, width) in zip(found, SIZES, strict=True):
        boxes, labels, scores = (detections[name] for name in ("boxes", "labels", "scores"))
        assert boxes.shape == (len(scores), 4)
        assert len(labels) == len(scores) <= CONSTANTS.max_detections
        assert set(labels.tolist()) <= set(range(1, NUM_CLASSES + 1))
        assert ((scores >= 0) & (scores <= 1)).all()
        assert (scores.diff() <= 0).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
        # inside the original image
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width + 1e-3).all()
        assert (boxes[:, 3] <= height + 1e-3).all()


@kinds
@torch.inference_mode()
def test_images_are_detected_alike_in_company_and_alone(arch: str) -> None:
    detector, images = _ready(arch), _images()

    _assert_same(detector(images), [detector([image])[0] for image in images])


@kinds
@torch.inference_mode()
def test_a_batch_is_detected_as_its_images_one_by_one(arch: str) -> None:
    detector, batch = _ready(arch), make_batch()

    alone = [
        detector.detect(Batch(**{name: getattr(batch, name)[i : i + 1] for name in Batch.__slots__}))[0]
        for i in range(len(batch))
    ]

    _assert_same(detector.detect(batch), alone)


@kinds
@torch.inference_mode()
def test_the_list_contract_and_a_batch_of_the_same_pixels_agree(arch: str) -> None:
    # An input size without padding: a batch pads with whole numbers, the list contract with the exact mean.
    detector = _ready(arch.replace("64x48", "96x64"))
    pixels = torch.randint(0, 256, (3, 3, 64, 96), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    batch = make_batch()
    sizes = torch.tensor([[64, 96]] * 3)

    from_batch = detector.detect(
        Batch(
            images=pixels,
            boxes=batch.boxes,
            labels=batch.labels,
            crowd=batch.crowd,
            num_boxes=batch.num_boxes,
            image_ids=batch.image_ids,
            sizes=sizes,
            original_sizes=sizes,
        )
    )

    _assert_same(detector([image / 255 for image in pixels]), from_batch)


@kinds
@torch.inference_mode()
def test_boxes_are_given_in_pixels_of_the_original_image(arch: str) -> None:
    detector, batch = _ready(arch), make_batch()
    larger = Batch(
        **{name: getattr(batch, name) for name in Batch.__slots__ if name != "original_sizes"},
        original_sizes=batch.sizes * torch.tensor([3, 5]),
    )
    on_canvas = Batch(
        **{name: getattr(batch, name) for name in Batch.__slots__ if name != "original_sizes"},
        original_sizes=batch.sizes,
    )

    found, expected = detector.detect(larger), detector.detect(on_canvas)

    scale = torch.tensor([5.0, 3.0, 5.0, 3.0])  # height x 3, width x 5
    _assert_same(found, [{**each, "boxes": each["boxes"] * scale} for each in expected])


@kinds
@torch.inference_mode()
def test_a_folded_detector_detects_the_same(arch: str) -> None:
    detector, batch = _ready(arch), make_batch()

    _assert_same(fold_weight_standardization(detector).detect(batch), detector.detect(batch))


@kinds
@torch.inference_mode()
def test_weights_survive_the_disk(arch: str, tmp_path: Path) -> None:
    detector, other, batch = _ready(arch), build(arch, seed=1).eval(), make_batch()

    save_weights(tmp_path, detector, {"arch": arch})
    load_weights(tmp_path, other)

    assert all(torch.equal(value, other.state_dict()[name]) for name, value in detector.state_dict().items())
    _assert_same(other.detect(batch), detector.detect(batch), atol=0)


@kinds
def test_gradients_reach_every_parameter(arch: str) -> None:
    detector = build(arch).train()

    losses = detector.losses(make_batch())
    torch.autograd.backward(list(losses.values()))

    without = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


@kinds
@pytest.mark.parametrize(
    "truth",
    [
        (targets([], []), targets([], [])),
        (targets([], []), targets([(3, 4, 30, 40)], [1])),
        (targets([(0, 0, 64, 48)], [3]),),
        (targets([(5, 5, 6, 6)] * 30, [2] * 30),),
    ],
    ids=["no boxes", "one box in two images", "the whole image", "many tiny boxes"],
)
def test_losses_are_finite_scalars(arch: str, truth: tuple[dict[str, Tensor], ...]) -> None:
    losses = build(arch).train().losses(make_batch(truth))

    rpn = {"loss_objectness", "loss_rpn_box_reg"} if "rpn" in arch else set()
    assert set(losses) == {"loss_classifier", "loss_box_reg"} | rpn
    assert all(loss.shape == () and loss.isfinite() and loss >= 0 for loss in losses.values())
    boxes = losses["loss_box_reg"].item()
    assert (boxes == 0) == all(len(each["boxes"]) == 0 for each in truth)


def _losses(detector: Detector, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(5)  # anchors and RoIs are sampled
    return detector.losses(batch)


@kinds
def test_crowd_regions_are_no_targets(arch: str) -> None:
    detector = build(arch).train()
    one, other = targets([(4, 5, 30, 40)], [1]), targets([(10, 10, 22, 30)], [2])
    crowded = targets([(4, 5, 30, 40), (20, 0, 64, 48)], [1, 3])

    with_crowd = _losses(detector, make_batch((crowded, other), crowd=[[False, True], [False, False]]))
    as_object = _losses(detector, make_batch((crowded, other)))

    expected = _losses(detector, make_batch((one, other)))
    assert with_crowd == expected
    assert as_object != expected


@kinds
def test_padding_is_no_target(arch: str) -> None:
    detector, batch = build(arch).train(), make_batch()
    empty = torch.zeros(len(batch), 4, dtype=torch.int64)
    padded = Batch(
        images=batch.images,
        boxes=torch.cat([batch.boxes, torch.full((len(batch), 4, 4), 9.0)], dim=1),
        labels=torch.cat([batch.labels, empty], dim=1),
        crowd=torch.cat([batch.crowd, empty.bool()], dim=1),
        num_boxes=batch.num_boxes,
        image_ids=batch.image_ids,
        sizes=batch.sizes,
        original_sizes=batch.original_sizes,
    )

    assert _losses(detector, padded) == _losses(detector, batch)


@kinds
def test_training_on_a_list_is_training_on_its_batch(arch: str) -> None:
    detector = build(arch.replace("64x48", "96x64")).train()
    images = _images([(32, 48), (32, 48)])
    truth = [targets([(2, 3, 20, 30)], [1]), targets([], [])]

    torch.manual_seed(5)
    losses = detector(images, truth)

    assert isinstance(losses, dict)
    # the input size is twice the image: so are the boxes on the canvas
    (_, batch), *others = detector._batches(images, truth)
    assert not others
    torch.testing.assert_close(batch.boxes[0, 0], torch.tensor([4.0, 6.0, 40.0, 60.0]))
    for name, loss in _losses(detector, batch).items():
        torch.testing.assert_close(losses[name], loss)


def test_boxes_of_a_list_are_scaled_as_their_image_is() -> None:
    """Rounded to whole pixels, a thin image is not scaled by the same factor in both directions."""
    detector = build(ONE_STAGE)

    (_, batch), *_ = detector._batches(_images([(5, 199)]), [targets([(0, 0, 199, 5)], [1])])

    assert batch.sizes.tolist() == [[2, 64]]
    torch.testing.assert_close(batch.boxes[0, 0], torch.tensor([0.0, 0.0, 64.0, 2.0]))


@kinds
def test_landscape_and_portrait_train_together_and_leave_the_targets_alone(arch: str) -> None:
    detector = build(arch).train()
    truth = [targets([(2, 3, 20, 30)], [1]), targets([(1, 1, 30, 60)], [2]), targets([], [])]
    before = copy.deepcopy(truth)

    losses = detector(_images([(40, 60), (70, 40), (50, 50)]), truth)

    assert isinstance(losses, dict)
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    assert all(torch.equal(a[name], b[name]) for a, b in zip(truth, before, strict=True) for name in a)


@kinds
def test_training_without_targets_is_refused(arch: str) -> None:
    with pytest.raises(ValueError, match="targets must be given in training mode, but got None"):
        build(arch).train()(_images()[:1])


@kinds
def test_the_same_seed_gives_the_same_detector(arch: str) -> None:
    one, same, other = (build(arch, seed).state_dict() for seed in (0, 0, 1))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_classes_beside_the_background_set_the_outputs() -> None:
    one_stage, two_stage = (build(arch).state_dict() for arch in ARCHS)

    assert len(one_stage["head.head.classification_head.cls_logits.bias"]) == 9 * NUM_CLASSES
    assert len(two_stage["head.roi_heads.box_predictor.cls_score.bias"]) == NUM_CLASSES + 1
    assert len(two_stage["head.roi_heads.box_predictor.bbox_pred.bias"]) == 4 * (NUM_CLASSES + 1)


def test_the_wiring_follows_the_spec() -> None:
    arch = "96x64.resnet50-w4.fpn-p3-p7-c12.rpn.fc-w20"
    detector, spec = build(arch), decode(arch)

    assert (detector.long, detector.short) == (96, 64)
    assert detector.backbone.out_channels == (16, 32, 64, 128)
    levels = detector.neck(detector.backbone(torch.zeros(1, 3, 64, 96)))
    assert list(levels) == ["p3", "p4", "p5", "p6", "p7"]
    assert {level.shape[1] for level in levels.values()} == {spec.neck.channels}
    assert detector.state_dict()["head.roi_heads.box_head.fc7.weight"].shape == (20, 20)
