from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smnas_optuna.arch import (
    BackboneSpec,
    CascadeHeadSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    RetinaHeadSpec,
    RpnSpec,
    decode,
)
from smnas_optuna.arch.constants import NORMS
from smnas_optuna.arch.order import kinds_of
from smnas_optuna.arch.spec import BLOCKS, CASCADE_STAGES, EXTRA_LEVELS, MAX_LEVELS, MIN_LEVELS, MOBILENET
from smnas_optuna.engine.checkpoint import load_weights, save_weights
from smnas_optuna.models import fold_for_inference
from smnas_optuna.models.neck import FPN

from .tiny_detectors import (
    ARCHS,
    CONSTANTS,
    NO_BOXES,
    NUM_CLASSES,
    ONE_STAGE,
    TWO_STAGE,
    build,
    kinds,
    make_batch,
    ready,
    shared,
    single,
    spread_predictions,
    targets,
    with_padding,
)

# (height, width): both orientations, odd, square, enlarged, thin in either direction
SIZES = [(96, 128), (128, 96), (33, 71), (201, 47), (50, 50), (7, 9), (2, 200), (200, 3), (1, 1)]

# Else the random numbers that choose samples, one for each place, would choose others where there are more places.
ALL_SAMPLED = replace(CONSTANTS, rpn_samples=20_000, roi_samples=1_000, guided_roi_samples=1_000)


def _images(sizes: list[tuple[int, int]] = SIZES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


TIE = 1e-6
"""Scores that are nearer than this may change places: another order of summation decides."""


def _assert_same(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], atol: float = 3e-3) -> None:
    """All that is more than a tie above the lowest score, which others may have been cut off at, has its like."""
    compared = 0
    for mine, its in zip(found, expected, strict=True):
        assert len(mine["boxes"]) == len(its["boxes"])
        torch.testing.assert_close(mine["scores"], its["scores"], atol=1e-4, rtol=0)
        full = len(its["scores"]) == CONSTANTS.max_detections
        sure = its["scores"] > (its["scores"].min() + TIE if full else -1)
        alike = (mine["boxes"][:, None] - its["boxes"]).abs().amax(dim=-1) <= atol
        alike &= mine["labels"][:, None] == its["labels"]
        alike &= (mine["scores"][:, None] - its["scores"]).abs() <= 1e-4
        assert alike.any(dim=0)[sure].all()
        compared += int(sure.sum())
    assert 2 * compared > sum(len(each["boxes"]) for each in expected) > 0  # there is something to compare


def test_every_kind_of_module_is_among_the_archs() -> None:
    specs = [decode(arch) for arch in ARCHS.values()]
    classic = {kinds_of(spec)[0] for spec in specs if isinstance(spec.backbone, BackboneSpec)}

    assert classic == {*BLOCKS, MOBILENET} - {"inverted"}
    assert {spec.backbone.block for spec in specs if isinstance(spec.backbone, EncodedBackboneSpec)} == set(BLOCKS)
    assert {spec.neck.extra if spec.neck else "c4" for spec in specs} == {None, *EXTRA_LEVELS, "c4"}
    assert {spec.neck.min_level for spec in specs if spec.neck} == set(MIN_LEVELS)
    assert {spec.neck.max_level for spec in specs if spec.neck} == set(MAX_LEVELS)
    pairs = {(spec.neck is None, type(spec.rpn), type(spec.head)) for spec in specs}
    assert {(rpn, head) for _, rpn, head in pairs} == {
        (type(None), RetinaHeadSpec),
        *((rpn, head) for rpn in (RpnSpec, GuidedRpnSpec) for head in (FcHeadSpec, CascadeHeadSpec)),
    }
    assert {spec.head.stages for spec in specs if isinstance(spec.head, CascadeHeadSpec)} == set(CASCADE_STAGES)


@kinds
@torch.inference_mode()
def test_detections_keep_the_contract(arch: str) -> None:
    found = ready(arch)(_images())

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
    detector, images = ready(arch), _images()

    _assert_same(detector(images), [detector([image])[0] for image in images])


@kinds
@torch.inference_mode()
def test_a_batch_is_detected_as_its_images_one_by_one(arch: str) -> None:
    detector, batch = ready(arch), make_batch()

    alone = [detector.detect(single(batch, image))[0] for image in range(len(batch))]

    _assert_same(detector.detect(batch), alone)


@kinds
@torch.inference_mode()
def test_the_list_contract_and_a_batch_of_the_same_pixels_agree(arch: str) -> None:
    # An input size without padding: a batch pads with whole numbers, the list contract with the exact mean.
    detector = ready(arch.replace("64x48", "96x64"))
    pixels = torch.randint(0, 256, (3, 3, 64, 96), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    sizes = torch.tensor([[64, 96]] * 3)

    from_batch = detector.detect(replace(make_batch(), images=pixels, sizes=sizes, original_sizes=sizes))

    _assert_same(detector([image / 255 for image in pixels]), from_batch)


@kinds
@torch.inference_mode()
def test_boxes_are_given_in_pixels_of_the_original_image(arch: str) -> None:
    detector, batch = ready(arch), make_batch()
    larger = replace(batch, original_sizes=batch.sizes * torch.tensor([3, 5]))
    on_canvas = replace(batch, original_sizes=batch.sizes)

    found, expected = detector.detect(larger), detector.detect(on_canvas)

    scale = torch.tensor([5.0, 3.0, 5.0, 3.0])  # height x 3, width x 5
    _assert_same(found, [{**each, "boxes": each["boxes"] * scale} for each in expected])


@pytest.mark.slow  # test_layers.py has it in the fast tier, with drawn statistics
@kinds
@pytest.mark.parametrize("norm", NORMS)
@torch.inference_mode()
def test_a_folded_detector_detects_the_same(arch: str, norm: str) -> None:
    detector, batch = build(arch, constants=replace(CONSTANTS, norm=norm)).train(), make_batch()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    detector.losses(batch)  # BatchNorm's statistics are those of this step
    spread_predictions(detector.eval())
    # What is folded in float64: the variance of a channel that is nearly dead makes much of a rounding error.
    detector.double().head.float()

    folded = fold_for_inference(detector)

    _assert_same(folded.detect(batch), detector.detect(batch))


@kinds
@torch.inference_mode()
def test_weights_survive_the_disk(arch: str, tmp_path: Path) -> None:
    detector, other, batch = ready(arch), build(arch, seed=1).eval(), make_batch()

    save_weights(tmp_path, detector, {"arch": arch})
    load_weights(tmp_path, other)

    assert all(torch.equal(value, other.state_dict()[name]) for name, value in detector.state_dict().items())
    _assert_same(other.detect(batch), detector.detect(batch), atol=0)


@kinds
def test_gradients_reach_every_parameter(arch: str) -> None:
    # All anchors: a few of thousands may miss the highest level, whose only convolution then has no gradient.
    detector = build(arch, constants=replace(CONSTANTS, rpn_samples=20_000)).train()

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
        (targets([(10, 10, 30, 30)], [1]),),
    ],
    ids=["no boxes", "one box in two images", "the whole image", "many tiny boxes", "one box"],
)
def test_losses_are_finite_scalars(arch: str, truth: tuple[dict[str, Tensor], ...]) -> None:
    losses = shared(arch).train().losses(make_batch(truth))

    rpn, head = decode(arch).rpn, decode(arch).head
    names = {"loss_classifier", "loss_box_reg"}
    if isinstance(head, CascadeHeadSpec):
        names |= {f"{name}_{number}" for name in names for number in range(2, head.stages + 1)}
    if rpn is not None:
        names |= {"loss_objectness", "loss_rpn_box_reg"}
    if isinstance(rpn, GuidedRpnSpec):
        names |= {"loss_anchor_location", "loss_anchor_shape"}
    assert set(losses) == names
    assert all(loss.shape == () and loss.isfinite() and loss >= 0 for loss in losses.values())
    empty = all(len(each["boxes"]) == 0 for each in truth)
    for name in ("loss_box_reg", "loss_rpn_box_reg", "loss_anchor_shape"):
        if name in losses:
            assert (losses[name] == 0) == empty


@kinds
def test_losses_of_a_batch_without_boxes_are_those_of_padding_alone(arch: str) -> None:
    detector, batch = shared(arch, ALL_SAMPLED).train(), make_batch(NO_BOXES)
    assert batch.boxes.shape[1] == 0

    _assert_same_losses(detector.losses(batch), detector.losses(with_padding(batch)))


def _assert_same_losses(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-6, rtol=1e-5)


CROWDED = (targets([(4, 5, 30, 40), (20, 0, 64, 48)], [1, 3]), targets([(10, 10, 22, 30)], [2]))
CROWD = [[False, True], [False, False]]


@kinds
def test_crowd_regions_are_no_objects(arch: str) -> None:
    """They only take negatives away."""
    detector = shared(arch, ALL_SAMPLED).train()
    other_label = (targets([(4, 5, 30, 40), (20, 0, 64, 48)], [1, 2]), CROWDED[1])
    plain = make_batch((targets([(4, 5, 30, 40)], [1]), CROWDED[1]))

    with_crowd = detector.losses(make_batch(CROWDED, crowd=CROWD))

    without = detector.losses(with_padding(plain, 1))
    assert detector.losses(make_batch(other_label, crowd=CROWD)) == with_crowd
    assert detector.losses(make_batch(CROWDED)) != with_crowd
    assert with_crowd != without
    for name in {"loss_box_reg"} if ".retina" in arch else {"loss_anchor_shape"} & set(without):
        assert with_crowd[name] == without[name]  # the mean over positives, which are the same
    for name in {"loss_rpn_box_reg"} & set(without):
        # the sum over the same positives, divided by fewer negatives
        assert with_crowd[name] > without[name]


@kinds
def test_a_crowd_region_that_no_candidate_lies_on_changes_nothing(arch: str) -> None:
    detector = shared(arch).train()
    # a part of a place, that no anchor lies on by half, and whose own box is no candidate
    crowded = (targets([(4, 5, 30, 40), (60.1, 44.1, 60.2, 44.2)], [1, 3]), CROWDED[1])

    with_crowd = detector.losses(make_batch(crowded, crowd=CROWD))

    plain = make_batch((targets([(4, 5, 30, 40)], [1]), CROWDED[1]))
    _assert_same_losses(with_crowd, detector.losses(with_padding(plain, 1)))
    assert detector.losses(make_batch(crowded)) != with_crowd  # as an object it does


@kinds
@pytest.mark.parametrize("value", [0.0, 9.0])
def test_padding_is_no_target(arch: str, value: float) -> None:
    detector, batch = shared(arch, ALL_SAMPLED).train(), make_batch()

    _assert_same_losses(detector.losses(with_padding(batch, value=value)), detector.losses(batch))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("arch", ARCHS.values(), ids=str)
def test_weights_that_are_no_numbers_give_losses_that_are_none_and_no_detection(arch: str, value: float) -> None:
    """A divergence is told from the losses; nothing may break before."""
    detector = build(arch).train()
    for name, parameter in detector.named_parameters():
        if name.startswith("neck") or ".layer3." in name:
            nn.init.constant_(parameter, value)
        elif not isinstance(detector.neck, FPN):
            parameter.data[0] = value

    losses = detector.losses(make_batch())
    torch.autograd.backward(list(losses.values()))
    with torch.inference_mode():
        found = detector.eval().detect(make_batch())

    assert not all(loss.isfinite() for loss in losses.values())
    assert [len(each["boxes"]) for each in found] == [0, 0, 0]


@kinds
def test_training_on_a_list_is_training_on_its_batch(arch: str) -> None:
    detector = shared(arch.replace("64x48", "96x64")).train()
    images = _images([(32, 48), (32, 48)])
    truth = [targets([(2, 3, 20, 30)], [1]), targets([], [])]

    torch.manual_seed(5)
    losses = detector(images, truth)

    assert isinstance(losses, dict)
    # the input size is twice the image: so are the boxes on the canvas
    torch.manual_seed(5)  # the images' seeds are drawn
    (_, batch), *others = detector._batches(images, truth)
    assert not others
    torch.testing.assert_close(batch.boxes[0, 0], torch.tensor([4.0, 6.0, 40.0, 60.0]))
    for name, loss in detector.losses(batch).items():
        torch.testing.assert_close(losses[name], loss)


def test_seeds_of_a_list_are_drawn_from_torchs_generator_for_training_alone() -> None:
    detector, images = build(TWO_STAGE), _images([(32, 48), (40, 60)])
    truth = [targets([(2, 3, 20, 30)], [1]), targets([], [])]
    torch.manual_seed(5)
    (_, first), (_, second), (_, for_detection) = (
        detector._batches(images, given)[0] for given in (truth, truth, None)
    )
    drawn = torch.get_rng_state()
    torch.manual_seed(5)
    (_, again), (_, twice) = (detector._batches(images, truth)[0] for _ in range(2))

    assert first.seeds.dtype == torch.int64
    assert len({*first.seeds.tolist(), *second.seeds.tolist()}) == 4
    assert torch.equal(first.seeds, again.seeds)
    assert torch.equal(second.seeds, twice.seeds)
    assert not for_detection.seeds.any()
    assert torch.equal(torch.get_rng_state(), drawn)


def test_boxes_of_a_list_are_scaled_as_their_image_is() -> None:
    """Rounded to whole pixels, a thin image is not scaled by the same factor in both directions."""
    detector = build(ONE_STAGE)

    (_, batch), *_ = detector._batches(_images([(5, 199)]), [targets([(0, 0, 199, 5)], [1])])

    assert batch.sizes.tolist() == [[2, 64]]
    torch.testing.assert_close(batch.boxes[0, 0], torch.tensor([0.0, 0.0, 64.0, 2.0]))


@kinds
def test_landscape_and_portrait_train_together_and_leave_the_targets_alone(arch: str) -> None:
    detector = shared(arch).train()
    truth = [targets([(2, 3, 20, 30)], [1]), targets([(1, 1, 30, 60)], [2]), targets([], [])]
    before = copy.deepcopy(truth)

    losses = detector(_images([(40, 60), (70, 40), (50, 50)]), truth)

    assert isinstance(losses, dict)
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    assert all(torch.equal(a[name], b[name]) for a, b in zip(truth, before, strict=True) for name in a)


@kinds
def test_training_without_targets_is_refused(arch: str) -> None:
    with pytest.raises(ValueError, match="targets must be given in training mode, but got None"):
        shared(arch).train()(_images()[:1])


@kinds
def test_the_same_seed_gives_the_same_detector(arch: str) -> None:
    one, same, other = (build(arch, seed).state_dict() for seed in (0, 0, 1))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_classes_beside_the_background_set_the_outputs() -> None:
    one_stage, two_stage = (build(arch).state_dict() for arch in (ONE_STAGE, TWO_STAGE))

    assert len(one_stage["head.head.classification_head.cls_logits.bias"]) == 9 * NUM_CLASSES
    assert len(two_stage["head.roi_head.stages.0.1.cls_score.bias"]) == NUM_CLASSES + 1
    assert len(two_stage["head.roi_head.stages.0.1.bbox_pred.bias"]) == 4 * (NUM_CLASSES + 1)


def test_the_wiring_follows_the_spec() -> None:
    arch = "96x64.resnet50-w4.fpn-p3-p7-c12.rpn.fc-w20"
    detector, spec = build(arch), decode(arch)
    assert spec.neck is not None

    assert (detector.long, detector.short) == (96, 64)
    assert detector.backbone.out_channels == (16, 32, 64, 128)
    levels = detector.neck(detector.backbone(torch.zeros(1, 3, 64, 96)))
    assert list(levels) == ["p3", "p4", "p5", "p6", "p7"]
    assert {level.shape[1] for level in levels.values()} == {spec.neck.channels}
    assert detector.state_dict()["head.roi_head.stages.0.0.fc7.weight"].shape == (20, 20)
