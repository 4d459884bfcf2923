from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from smnas_optuna.batch import Batch
from smnas_optuna.models.assign import random_keys
from smnas_optuna.models.build import stage_recipes
from smnas_optuna.models.detections import Selection
from smnas_optuna.models.proposals import Proposals
from smnas_optuna.models.roi_align import pyramid_roi_align
from smnas_optuna.models.roi_head import (
    MIN_EDGE,
    POSITIVE_SHARE,
    BoxPredictor,
    RoiHead,
    StageRecipe,
    TopStage,
    fc_stage,
)

from .tiny_detectors import (
    NO_BOXES,
    NUM_CLASSES,
    TARGETS,
    KeyedSampler,
    make_batch,
    random_boxes,
    spread_predictions,
    targets,
    with_padding,
)

CHANNELS, WIDTH, BINS = 8, 16, 7
LEVELS = range(2, 6)
PLACES = 40
FOUND = (40, 33, 25)
"""Places for proposals, and how many of them each image has."""
SIZES = [(48, 64), (64, 64), (50, 33)]
MANY = (TARGETS[0], targets([(3, 3, 20, 20), (15, 8, 28, 39), (1, 20, 9, 30)], [1, 1, 2]), TARGETS[2])
truths = pytest.mark.parametrize(
    "truth", [TARGETS, NO_BOXES, MANY], ids=["two, none and one", "no boxes", "every image has some"]
)
kinds = pytest.mark.parametrize("kind", ["fc", "c4"])
codings = pytest.mark.parametrize("agnostic", [False, True], ids=["a box a class", "class-agnostic"])
lengths = pytest.mark.parametrize("length", [2, 3, 4])


def _features(levels: Sequence[int] = LEVELS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {f"p{n}": torch.randn(3, CHANNELS, 64 // 2**n, 64 // 2**n, generator=generator) for n in levels}


def _alone(features: dict[str, Tensor], image: int) -> dict[str, Tensor]:
    return {name: each[image : image + 1] for name, each in features.items()}


def _batch(truth: Sequence[dict[str, Tensor]] = TARGETS) -> Batch:
    return make_batch(truth, sizes=SIZES)


def _proposals(truth: Sequence[dict[str, Tensor]] = TARGETS) -> Proposals:
    """Some near the objects, others anywhere; padding at the end."""
    generator = torch.Generator().manual_seed(5)
    boxes = torch.stack([random_boxes(generator, PLACES, 33.0) for _ in range(3)])
    for image, each in enumerate(truth):
        near = each["boxes"].repeat(6, 1)
        boxes[image, : len(near)] = near + torch.randn(near.shape, generator=generator) * torch.tensor([2, 2, 3, 3])
    valid = torch.arange(PLACES) < torch.tensor(FOUND)[:, None]
    return Proposals(boxes=boxes.clamp(min=0) * valid[..., None], valid=valid)


def _their_proposals(proposals: Proposals) -> list[Tensor]:
    return [boxes[valid] for boxes, valid in zip(proposals.boxes, proposals.valid, strict=True)]


def _head(
    recipes: Sequence[StageRecipe],
    *,
    kind: str = "fc",
    agnostic: bool = True,
    samples: int = 16,
    keys: Tensor | None = None,
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    max_detections: int = 20,
) -> RoiHead:
    torch.manual_seed(0)
    trunk: nn.Module = nn.Identity()
    levels, bins = LEVELS, BINS
    if kind == "c4":
        levels, bins = range(4, 5), 2 * BINS
        trunk = TopStage(nn.Sequential(nn.Conv2d(CHANNELS, WIDTH, 3, stride=2, padding=1), nn.ReLU()))
        stages: list[nn.Module] = [BoxPredictor(WIDTH, NUM_CLASSES, class_agnostic=agnostic) for _ in recipes]
    else:
        stages = [fc_stage(CHANNELS, bins, WIDTH, NUM_CLASSES, class_agnostic=agnostic) for _ in recipes]
    head = RoiHead(
        levels,
        bins,
        trunk,
        stages,
        recipes,
        samples=samples,
        num_proposals=PLACES,
        selection=Selection(score_threshold=score_threshold, nms_iou=nms_iou, max_detections=max_detections),
        keys=random_keys if keys is None else lambda *_: keys,
    )
    spread_predictions(head)
    for (
        name,
        parameter,
    ) in head.named_parameters():  # the features are small and alike: scores shall differ nevertheless
        if name.endswith(("cls_score.weight", "bbox_pred.weight")):
            parameter.data = 8 * (parameter.data - parameter.data.mean(dim=1, keepdim=True))
    return head


def _predictor(head: RoiHead, stage: int = 0) -> BoxPredictor:
    own = head.stages[stage]
    found = own[1] if isinstance(own, nn.Sequential) else own
    assert isinstance(found, BoxPredictor)
    return found


class _Repeated(nn.Module):
    """torchvision's predictor, whose boxes of all classes are the one box of ours."""

    def __init__(self, own: BoxPredictor, channels: int) -> None:
        super().__init__()
        self.theirs = FastRCNNPredictor(channels, NUM_CLASSES + 1)
        self.theirs.cls_score = own.cls_score
        self.bbox_pred = own.bbox_pred
        self.times = 1 if own.bbox_pred.out_features > 4 else NUM_CLASSES + 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # A function of the shared parameters, so that gradients can be compared.
        self.theirs.bbox_pred = _Given(self.bbox_pred(x).repeat(1, self.times))
        return self.theirs(x)  # type: ignore[no-any-return]


class _Given(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return self.output


def _torchvisions(head: RoiHead, keys: Sequence[Tensor] = ()) -> tuple[RoIHeads, KeyedSampler]:
    """torchvision's RoIHeads with the weights of the first stage of ``head``."""
    (recipe, *_), own = head.recipes, head.stages[0]
    pool = MultiScaleRoIAlign([f"p{level}" for level in head.levels], head.bins, sampling_ratio=2)
    theirs = RoIHeads(
        pool,
        own[0] if isinstance(own, nn.Sequential) else head.trunk,
        _Repeated(_predictor(head), WIDTH),
        recipe.positive_iou,
        recipe.positive_iou,
        head.samples,
        POSITIVE_SHARE,
        recipe.box_weights,
        head.selection.score_threshold,
        head.selection.nms_iou,
        head.selection.max_detections,
    )
    sampler = theirs.fg_bg_sampler = KeyedSampler(head.samples, POSITIVE_SHARE, keys)
    return theirs, sampler


def _keys(batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Of all candidates as ours has them, and of those that are there, as torchvision has them."""
    keys = torch.rand(3, PLACES + batch.boxes.shape[1], generator=torch.Generator().manual_seed(6))
    there = torch.cat((_proposals().valid, batch.labels > 0), dim=1)
    return keys, [own[own_there] for own, own_there in zip(keys, there, strict=True)]


def _their_losses(
    head: RoiHead, features: dict[str, Tensor], truth: Sequence[dict[str, Tensor]], keys: Sequence[Tensor]
) -> tuple[dict[str, Tensor], KeyedSampler]:
    theirs, sampler = _torchvisions(head, keys)
    _, losses = theirs.train()(features, _their_proposals(_proposals(truth)), SIZES, list(truth))
    return losses, sampler


ONE = stage_recipes(1, guided=False)


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@kinds
@codings
@truths
def test_losses_and_gradients_are_torchvisions(kind: str, agnostic: bool, truth: Sequence[dict[str, Tensor]]) -> None:
    """It divides by the RoIs of all images: where these have equally many, that is a mean over images."""
    batch = _batch(truth)
    keys, their_keys = _keys(batch)
    head = _head(ONE, kind=kind, agnostic=agnostic, keys=keys)
    features = _features(head.levels)

    losses = head.losses(features, _proposals(truth), batch)

    expected, sampler = _their_losses(head, features, truth, their_keys)
    assert sampler.used == [16, 16, 16]
    assert [number > 0 for number in sampler.positive] == [len(each["boxes"]) > 0 for each in truth]
    assert set(losses) == set(expected) == {"loss_classifier", "loss_box_reg"}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-5, rtol=1e-5)
        assert (loss > 0) == (name == "loss_classifier" or truth is not NO_BOXES)
    mine, its = (torch.autograd.grad(_sum(each), list(head.parameters())) for each in (losses, expected))
    for one, other in zip(mine, its, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@codings
@truths
def test_losses_of_unequal_images_are_the_mean_of_torchvisions_one_by_one(
    agnostic: bool, truth: Sequence[dict[str, Tensor]]
) -> None:
    """More samples than there are candidates: all negatives and as many positives as there are, are looked at."""
    batch, proposals, features = _batch(truth), _proposals(truth), _features()
    keys, their_keys = _keys(batch)
    head = _head(ONE, agnostic=agnostic, samples=500, keys=keys)

    losses = head.losses(features, proposals, batch)

    alone, used = [], []
    for image in range(3):
        theirs, sampler = _torchvisions(head, their_keys[image : image + 1])
        theirs.box_roi_pool(features, _their_proposals(proposals), SIZES)  # it settles its scales by all images
        own = [_their_proposals(proposals)[image]]
        alone.append(theirs.train()(_alone(features, image), own, SIZES[image : image + 1], [truth[image]])[1])
        used += sampler.used
    assert len(set(used)) == 3
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.stack([each[name] for each in alone]).mean(), atol=1e-5, rtol=1e-5)


@kinds
@codings
@pytest.mark.parametrize("threshold", [0.0, 0.4])
@torch.inference_mode()
def test_detections_are_torchvisions(kind: str, agnostic: bool, threshold: float) -> None:
    head = _head(ONE, kind=kind, agnostic=agnostic, score_threshold=threshold)
    features, proposals = _features(head.levels), _proposals()

    found = _detect(head, features, proposals, _batch())

    expected, _ = _torchvisions(head)[0].eval()(features, _their_proposals(proposals), SIZES)
    for mine, its in zip(found, expected, strict=True):
        assert len(its["boxes"]) > 3
        assert torch.equal(mine["labels"], its["labels"])
        torch.testing.assert_close(mine["scores"], its["scores"], atol=1e-5, rtol=0)
        torch.testing.assert_close(mine["boxes"], its["boxes"], atol=1e-3, rtol=0)
    assert len({label for each in expected for label in each["labels"].tolist()}) > 1


def _detect(head: RoiHead, features: dict[str, Tensor], proposals: Proposals, batch: Batch) -> list[dict[str, Tensor]]:
    found = head.selection.exact(head.candidates(features, proposals, batch, fixed_time=False))
    fixed = head.selection.exact(head.candidates(features, proposals, batch, fixed_time=True))
    for one, other in zip(found, fixed, strict=True):  # empty places change nothing but the shapes of what is computed
        for name in one:
            torch.testing.assert_close(one[name], other[name])
    return found


def _repeat(deltas: Tensor) -> Tensor:
    return deltas[:, :1].expand(-1, NUM_CLASSES + 1, -1).flatten(1)


def _run(head: RoiHead, stage: int, features: dict[str, Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """One stage on the boxes of one image, pooled by torchvision."""
    pool = MultiScaleRoIAlign([f"p{level}" for level in head.levels], head.bins, sampling_ratio=2)
    pooled = pool(features, [boxes], [(64, 64)])
    found: tuple[Tensor, Tensor] = head.stages[stage](head.trunk(pooled))
    return found


def _refined(boxes: Tensor, deltas: Tensor, recipe: StageRecipe, size: tuple[int, int]) -> Tensor:
    decoded = BoxCoder(recipe.box_weights).decode_single(deltas[:, 0].detach(), boxes)
    clipped: Tensor = clip_boxes_to_image(decoded, size)
    return clipped


def _slow_losses(
    head: RoiHead,
    features: dict[str, Tensor],
    boxes: Tensor,
    truth: dict[str, Tensor],
    keys: Tensor,
    size: tuple[int, int],
) -> tuple[dict[str, Tensor], list[int]]:
    """Losses of one image by torchvision's parts, stage by stage; and each stage's number of positives."""
    candidates = torch.cat((boxes, truth["boxes"]))
    losses, positives, chosen = {}, [], candidates
    for number, recipe in enumerate(head.recipes):
        iou = recipe.positive_iou
        labels, index = torch.zeros(len(chosen), dtype=torch.int64), torch.zeros(len(chosen), dtype=torch.int64)
        wanted = torch.ones(1, 4)
        if len(truth["boxes"]):
            matched = Matcher(iou, iou, False)(box_iou(truth["boxes"], chosen))
            index, wanted = matched.clamp(min=0), truth["boxes"]
            labels = torch.where(matched >= 0, truth["labels"][index], 0)
        if number == 0:
            positive, negative = KeyedSampler(head.samples, POSITIVE_SHARE, [keys])([labels])
            kept = (positive[0] | negative[0]).nonzero()[:, 0]
            chosen, labels, index = chosen[kept], labels[kept], index[kept]
        logits, deltas = _run(head, number, features, chosen)
        regression_targets = BoxCoder(recipe.box_weights).encode_single(wanted[index], chosen)
        classifier, box_reg = fastrcnn_loss(logits, _repeat(deltas), [labels], [regression_targets])
        suffix = f"_{number + 1}" if number else ""
        losses[f"loss_classifier{suffix}"] = recipe.loss_weight * classifier
        losses[f"loss_box_reg{suffix}"] = recipe.loss_weight * box_reg
        positives.append(int((labels > 0).sum()))
        chosen = _refined(chosen, deltas, recipe, size)
    return losses, positives


@kinds
@truths
@lengths
def test_losses_of_a_cascade_are_those_of_torchvisions_parts_stage_by_stage(
    kind: str, truth: Sequence[dict[str, Tensor]], length: int
) -> None:
    batch, proposals = _batch(truth), _proposals(truth)
    keys, their_keys = _keys(batch)
    head = _head(stage_recipes(length, guided=False), kind=kind, keys=keys)
    features = _features(head.levels)

    losses = head.losses(features, proposals, batch)

    parts = [
        _slow_losses(head, _alone(features, i), _their_proposals(proposals)[i], truth[i], their_keys[i], SIZES[i])
        for i in range(3)
    ]
    expected = {name: torch.stack([part[0][name] for part in parts]).mean() for name in parts[0][0]}
    assert list(losses) == list(expected)
    assert len(losses) == 2 * length
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-5, rtol=1e-4)
    mine, its = (torch.autograd.grad(_sum(each), list(head.parameters())) for each in (losses, expected))
    for one, other in zip(mine, its, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    if truth is not NO_BOXES:
        assert all(sum(part[1][stage] for part in parts) > 0 for stage in range(length))
        # boxes have moved and thresholds have risen: RoIs have become other things
        assert any(len(set(part[1])) > 1 for part in parts)


@kinds
@lengths
@torch.inference_mode()
def test_detections_of_a_cascade_are_the_refined_boxes_with_the_mean_of_all_scores(kind: str, length: int) -> None:
    head = _head(stage_recipes(length, guided=False), kind=kind, score_threshold=0.1)
    features, proposals = _features(head.levels), _proposals()

    found = _detect(head, features, proposals, _batch())

    for image, size in enumerate(SIZES):
        boxes, scores = _their_proposals(proposals)[image], []
        for stage, recipe in enumerate(head.recipes):
            logits, deltas = _run(head, stage, _alone(features, image), boxes)
            scores.append(logits.softmax(dim=1))
            boxes = _refined(boxes, deltas, recipe, size)
        sized = remove_small_boxes(boxes, MIN_EDGE)
        boxes, mean = boxes[sized], torch.stack(scores).mean(dim=0)[sized, 1:]
        roi, column = (mean > 0.1).nonzero(as_tuple=True)
        kept = batched_nms(boxes[roi], mean[roi, column], column, 0.5)[:20]
        assert len(kept) > 3
        assert found[image]["labels"].tolist() == (column[kept] + 1).tolist()
        torch.testing.assert_close(found[image]["scores"], mean[roi, column][kept], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[image]["boxes"], boxes[roi][kept], atol=1e-3, rtol=0)


def _watch(head: RoiHead) -> list[Tensor]:
    """What each stage is given, in the order of the stages."""
    seen: list[Tensor] = []
    for stage in head.stages:
        stage.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize("training", [True, False], ids=["training", "detection"])
@pytest.mark.parametrize("moves", [True, False], ids=["moves", "does not move"])
def test_a_stage_looks_where_the_one_before_has_moved_the_boxes(training: bool, moves: bool) -> None:
    batch, proposals, features = _batch(), _proposals(), _features()
    keys, _ = _keys(batch)
    head = _head(stage_recipes(2, guided=False), keys=keys)
    predictor = _predictor(head)
    nn.init.zeros_(predictor.bbox_pred.weight)
    # the first stage's box weights are 10, 10, 5, 5: a quarter of the width to the right, and twice as high
    shift, growth = (2.5, 5 * torch.tensor(2.0).log().item()) if moves else (0.0, 0.0)
    predictor.bbox_pred.bias.data = torch.tensor([shift, 0.0, 0.0, growth])
    seen = _watch(head)

    if training:
        head.losses(features, proposals, batch)
    else:
        head.candidates(features, proposals, batch, fixed_time=False)

    first, second = seen
    if training:
        boxes, _, _ = head._sampled(proposals, batch)
    else:
        boxes = proposals.boxes
    torch.testing.assert_close(first, pyramid_roi_align(features, LEVELS, boxes, BINS))
    if moves:
        width, height = boxes[..., 2:3] - boxes[..., :1], boxes[..., 3:] - boxes[..., 1:2]
        boxes = boxes + torch.cat((width / 4, -height / 2, width / 4, height / 2), dim=-1)
        boxes = torch.stack([clip_boxes_to_image(each, size) for each, size in zip(boxes, SIZES, strict=True)])
        assert not torch.allclose(first, second, atol=1e-2)
        torch.testing.assert_close(second, pyramid_roi_align(features, LEVELS, boxes, BINS), atol=1e-3, rtol=0)
    else:
        boxes = torch.stack([clip_boxes_to_image(each, size) for each, size in zip(boxes, SIZES, strict=True)])
        torch.testing.assert_close(second, pyramid_roi_align(features, LEVELS, boxes, BINS), atol=1e-3, rtol=0)


def test_no_gradient_flows_from_a_stage_to_the_one_before() -> None:
    batch = _batch()
    head = _head(stage_recipes(2, guided=False), keys=_keys(batch)[0])

    losses = head.losses(_features(), _proposals(), batch)
    torch.autograd.backward([losses["loss_classifier_2"], losses["loss_box_reg_2"]])

    assert all(p.grad is None or not p.grad.any() for p in head.stages[0].parameters())
    assert all(p.grad is not None and p.grad.any() for p in head.stages[1].parameters())


recipes_of_all = pytest.mark.parametrize("length", [1, 3], ids=["one stage", "cascade"])


@recipes_of_all
def test_what_lies_in_places_without_a_proposal_changes_nothing(length: int) -> None:
    batch, proposals, features = _batch(), _proposals(), _features()
    head = _head(stage_recipes(length, guided=False), samples=100, keys=_keys(batch)[0], score_threshold=0.0)
    # In these places: the objects themselves, and others.
    junk = random_boxes(torch.Generator().manual_seed(9), 3 * PLACES).view(3, PLACES, 4)
    junk[:, -4:] = batch.boxes[:, :1]
    filled = Proposals(boxes=torch.where(proposals.valid[..., None], proposals.boxes, junk), valid=proposals.valid)

    losses, same = (head.losses(features, each, batch) for each in (proposals, filled))
    found, alike = (_detect(head, features, each, batch) for each in (proposals, filled))

    assert not torch.equal(filled.boxes, proposals.boxes)
    for name, loss in losses.items():
        torch.testing.assert_close(same[name], loss)
    for one, other in zip(found, alike, strict=True):
        assert len(one["boxes"]) > 3
        for name in one:
            torch.testing.assert_close(one[name], other[name])


@recipes_of_all
def test_more_places_for_proposals_and_boxes_change_nothing(length: int) -> None:
    batch, proposals, features = _batch(), _proposals(), _features()
    keys, _ = _keys(batch)
    head = _head(stage_recipes(length, guided=False), samples=100, keys=keys)
    more = Proposals(boxes=F.pad(proposals.boxes, (0, 0, 0, 7)), valid=F.pad(proposals.valid, (0, 7)))
    padded = with_padding(batch)

    losses, found = head.losses(features, proposals, batch), _detect(head, features, proposals, batch)

    # their keys are the largest, so that they would be sampled first
    head.keys = lambda *_: torch.cat((F.pad(keys[:, :PLACES], (0, 7), value=0.999), F.pad(keys[:, PLACES:], (0, 4), value=0.999)), dim=1)  # fmt: skip # noqa: E501
    for name, loss in head.losses(features, more, padded).items():
        torch.testing.assert_close(loss, losses[name])
    for one, other in zip(found, _detect(head, features, more, padded), strict=True):
        assert len(one["boxes"]) > 3
        for name in one:
            torch.testing.assert_close(one[name], other[name])


def test_images_without_proposals_have_no_detections_and_learn_from_their_boxes_alone() -> None:
    batch, proposals = _batch(), _proposals()
    head = _head(ONE, agnostic=False, score_threshold=0.0)
    none = Proposals(boxes=torch.zeros_like(proposals.boxes), valid=torch.zeros_like(proposals.valid))
    one_image = replace(proposals, valid=proposals.valid & torch.tensor([[True], [False], [False]]))

    losses = head.losses(_features(), none, batch)
    nothing, something = _detect(head, _features(), none, batch), _detect(head, _features(), one_image, batch)

    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert [len(each["boxes"]) for each in nothing] == [0, 0, 0]
    assert [len(each["boxes"]) > 0 for each in something] == [True, False, False]


def test_crowd_regions_are_no_candidates() -> None:
    """All of the only image's boxes are crowd regions: nothing is left of it but background beside them."""
    truth = (targets([(0, 0, 20, 20)], [1]), TARGETS[0], TARGETS[2])
    crowd = [[True, False], [False, False], [False, False]]
    batch = make_batch(truth, crowd=crowd, sizes=SIZES)
    head = _head(ONE, agnostic=False, samples=100)

    boxes, used, matches = head._sampled(_proposals(truth), batch)

    seen = boxes[0, used[0]]
    assert len(seen) > 3
    assert not matches.positive[0].any()
    region = torch.tensor([0.0, 0.0, 20.0, 20.0])
    shared = (torch.minimum(seen[:, 2:], region[2:]) - seen[:, :2]).clamp(min=0).prod(dim=1)
    assert (shared <= 0.5 * (seen[:, 2:] - seen[:, :2]).prod(dim=1)).all()


def test_a_small_box_is_no_detection() -> None:
    head = _head(ONE, agnostic=False, score_threshold=0.0)
    nn.init.zeros_(_predictor(head).bbox_pred.weight)
    nn.init.zeros_(_predictor(head).bbox_pred.bias)
    boxes = torch.tensor([[[5.0, 5.0, 5.005, 20.0], [5.0, 5.0, 20.0, 5.02], [30.0, 8.0, 40.0, 40.0]]]).expand(3, -1, -1)

    found = _detect(head, _features(), Proposals(boxes=boxes, valid=torch.ones(3, 3, dtype=torch.bool)), _batch())

    assert all(len(each["boxes"]) == 2 * NUM_CLASSES for each in found)
    assert all((each["boxes"][:, 2:] - each["boxes"][:, :2] > 0.01).all() for each in found)
