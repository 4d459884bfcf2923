from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from smnas_optuna.arch import DetectorConstants
from smnas_optuna.batch import Batch
from smnas_optuna.models.assign import match
from smnas_optuna.models.one_stage import OneStageHead

from .tiny_detectors import (
    CONSTANTS,
    NO_BOXES,
    NUM_CLASSES,
    ONE_STAGE,
    TARGETS,
    build,
    make_batch,
    single,
    spread_predictions,
    targets,
)

SIZES = [(48, 64), (40, 64), (48, 10)]
Box = tuple[float, float, float, float]


def _head(constants: DetectorConstants = CONSTANTS) -> OneStageHead:
    detector = build(ONE_STAGE, constants=constants)
    spread_predictions(detector)
    assert isinstance(detector.head, OneStageHead)
    return detector.head.eval()


def _inputs(truth: tuple[dict[str, Tensor], ...] = TARGETS) -> tuple[dict[str, Tensor], Batch]:
    generator = torch.Generator().manual_seed(4)
    features = {
        f"p{level}": torch.randn(3, 8, -(-64 // 2**level), -(-64 // 2**level), generator=generator)
        for level in range(3, 7)
    }
    return features, make_batch(truth, sizes=SIZES)


def _decode(anchor: list[float], delta: list[float]) -> Box:
    """Girshick et al. 2014, appendix C; sizes grow by at most 1000 / 16, as everywhere."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = anchor[0] + width / 2 + delta[0] * width
    y = anchor[1] + height / 2 + delta[1] * height
    most = math.log(1000 / 16)
    width, height = width * math.exp(min(delta[2], most)), height * math.exp(min(delta[3], most))
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _iou(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both) if both else 0.0


def _slow_detect(head: OneStageHead, features: dict[str, Tensor], image: int) -> list[tuple[float, ...]]:
    """(score, label, box) of one image, highest score first, by plain loops."""
    candidates: list[tuple[float, int, Box]] = []
    levels = list(features.values())
    anchors = torch.cat(head.anchors.of(levels)).tolist()
    start = 0
    for level in levels:
        outputs = head.head([level])
        scores = outputs["cls_logits"][image].sigmoid().tolist()
        deltas = outputs["bbox_regression"][image].tolist()
        pairs = [(score, place, label) for place, row in enumerate(scores) for label, score in enumerate(row, start=1)]
        for score, place, label in sorted(pairs, reverse=True)[: head.candidates_a_level]:
            candidates.append((score, label, _decode(anchors[start + place], deltas[place])))
        start += len(scores)
    height, width = SIZES[image]
    kept: list[tuple[float, int, Box]] = []
    for score, label, (x1, y1, x2, y2) in sorted(candidates, reverse=True):
        box = min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)
        rivals = [other for _, its, other in kept if its == label]
        if score > head.selection.score_threshold and all(
            _iou(box, other) <= head.selection.nms_iou for other in rivals
        ):
            kept.append((score, label, box))
    return [(score, label, *box) for score, label, box in kept[: head.selection.max_detections]]


@pytest.mark.parametrize("threshold", [0.0, 0.3])
@torch.inference_mode()
def test_detections_agree_with_a_slow_obvious_implementation(threshold: float) -> None:
    constants = DetectorConstants(
        anchor_scale=4.0, test_proposals=60, score_threshold=threshold, max_detections=25, nms_iou=0.4
    )
    head, (features, batch) = _head(constants), _inputs()

    found = head.selection.exact(head.candidates(features, batch, fixed_time=False))

    for image, detections in enumerate(found):
        expected = torch.tensor(_slow_detect(head, features, image))
        assert len(expected) > 3
        torch.testing.assert_close(detections["scores"], expected[:, 0], atol=1e-5, rtol=0)
        assert detections["labels"].tolist() == expected[:, 1].tolist()
        torch.testing.assert_close(detections["boxes"], expected[:, 2:], atol=1e-3, rtol=0)


@torch.inference_mode()
def test_a_high_threshold_leaves_nothing() -> None:
    head, (features, batch) = _head(DetectorConstants(score_threshold=0.999999)), _inputs()

    for detections in head.selection.exact(head.candidates(features, batch, fixed_time=False)):
        assert detections["boxes"].shape == (0, 4)
        assert detections["labels"].shape == detections["scores"].shape == (0,)


class _NoBackbone(nn.Module):
    out_channels = 8


def _torchvision_losses(head: OneStageHead, truth: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    """torchvision's RetinaNet has a column for label 0, which no target uses: here one that is never on."""
    theirs = RetinaNet(_NoBackbone(), NUM_CLASSES + 1, anchor_generator=head.anchors, head=head.head)
    features, _ = _inputs()
    levels = list(features.values())
    outputs = head.head(levels)
    logits = outputs["cls_logits"]
    outputs["cls_logits"] = torch.cat([torch.full_like(logits[..., :1], -100), logits], dim=-1)
    anchors = [torch.cat(head.anchors.of(levels))] * len(truth)
    return theirs.compute_loss(list(truth), outputs, anchors)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "truth",
    [TARGETS, NO_BOXES, (targets([(2, 2, 20, 30)], [NUM_CLASSES]),) * 3],
    ids=["several", "no boxes", "last label"],
)
def test_losses_and_gradients_are_those_of_torchvisions_retinanet(truth: tuple[dict[str, Tensor], ...]) -> None:
    head, (features, batch) = _head().train(), _inputs(truth)

    losses = head.losses(features, batch)

    expected = _torchvision_losses(head, truth)
    torch.testing.assert_close(losses["loss_classifier"], expected["classification"])
    torch.testing.assert_close(losses["loss_box_reg"], expected["bbox_regression"])
    assert (losses["loss_box_reg"] > 0) == (truth is not NO_BOXES)
    mine, its = (
        torch.autograd.grad(torch.stack(list(each.values())).sum(), list(head.parameters()))
        for each in (losses, expected)
    )
    for one, other in zip(mine, its, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("label", range(1, NUM_CLASSES + 1))
def test_a_label_uses_the_column_before_it(label: int) -> None:
    """The label that the losses pull up is the label that is detected."""
    head, (features, batch) = _head().train(), _inputs((targets([(8, 8, 30, 40)], [label]),) * 3)
    nn.init.zeros_(head.head.classification_head.cls_logits.weight)  # every place says the prior

    torch.autograd.backward(head.losses(features, batch)["loss_classifier"])

    bias = head.head.classification_head.cls_logits.bias
    pulled = bias.grad.view(-1, NUM_CLASSES).sum(0)
    assert (pulled < 0).tolist() == [column == label - 1 for column in range(NUM_CLASSES)]
    with torch.inference_mode():
        bias.copy_(-10 + 20 * (torch.arange(len(bias)) % NUM_CLASSES == label - 1))
        labels = [
            detections["labels"]
            for detections in head.selection.exact(head.eval().candidates(features, batch, fixed_time=False))
        ]
    assert all((each == label).all() and len(each) for each in labels)


def test_losses_of_a_batch_are_the_mean_of_its_images() -> None:
    detector = build(ONE_STAGE).train()

    together = detector.losses(make_batch())

    alone = [detector.losses(single(make_batch(), image)) for image in range(len(TARGETS))]
    for name, loss in together.items():
        torch.testing.assert_close(loss, torch.stack([each[name] for each in alone]).mean(), rtol=1e-4, atol=1e-5)


def test_candidates_of_crowds_and_between_the_thresholds_are_not_looked_at() -> None:
    """No logit of theirs has a gradient; every other one has."""
    truth = (targets([(4, 5, 30, 40), (20, 10, 60, 44)], [1, 3]), *TARGETS[1:])
    features, _ = _inputs()
    head = _head().train()
    batch = make_batch(truth, crowd=[[False, True], [False, False], [False, False]], sizes=SIZES)
    outputs = head.head(list(features.values()))
    logits = outputs["cls_logits"].detach().requires_grad_()
    head.head = _Given({**outputs, "cls_logits": logits})

    torch.autograd.backward(head.losses(features, batch)["loss_classifier"])

    found = match(batch, torch.cat(head.anchors.of(list(features.values()))), high=0.5, low=0.4, best_for_each_box=True)
    assert logits.grad is not None
    looked_at = (logits.grad != 0).any(dim=-1)
    assert torch.equal(looked_at, found.positive | found.negative)
    assert (~looked_at[0]).sum() > (~looked_at[2]).sum() > 0


class _Given(nn.Module):
    def __init__(self, outputs: dict[str, Tensor]) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _: list[Tensor]) -> dict[str, Tensor]:
        return self.outputs
