"""Detectors and batches that take milliseconds on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch, canvas_size
from smnas_optuna.models import Detector, build_detector

NUM_CLASSES = 3
ONE_STAGE = "64x48.resnet18-w8.fpn-p3-p6-c8.none.retina"
TWO_STAGE = "64x48.resnet18-w8.fpn-p2-p6-c8.rpn.fc-w16"
# Every kind of block, neck, RPN and head; test_detector says so.
ARCHS = {
    "one_stage": ONE_STAGE,
    "two_stage": TWO_STAGE,
    "one_stage-bottleneck-convp5": "64x48.resnet50-w4.fpn-p3-p7-c8-convp5.none.retina",
    "cascade2-xbottleneck-convc5": "64x48.resnext50-w8.fpn-p4-p7-c8-convc5.rpn.cascade2-w16",
    "c4-mobilenet": "64x48.mobilenet_v2-w8.c4.rpn.fc",
    "c4-cascade3": "64x48.bottleneck-w4-1-21-21-12.c4.rpn.cascade3",
    "guided-inverted": "64x48.inverted-w8-1-21-21-12.fpn-p2-p5-c8.ga.fc-w16",
    "guided-cascade4-xbottleneck": "64x48.xbottleneck-w8-1-21-21-12.fpn-p3-p6-c8-convp5.ga.cascade4-w16",
    "guided-c4-basicblock": "64x48.basicblock-w8-1-21-21-12.c4.ga.cascade2",
}

kinds = pytest.mark.parametrize("arch", ARCHS.values(), ids=ARCHS)

CONSTANTS = DetectorConstants(
    anchor_scale=4.0,
    train_proposals=50,
    test_proposals=40,
    guided_proposals=40,
    rpn_samples=32,
    roi_samples=32,
    guided_roi_samples=24,
    score_threshold=0.0,
    max_detections=20,
)


def build(arch: str, seed: int = 0, constants: DetectorConstants = CONSTANTS) -> Detector:
    torch.manual_seed(seed)
    return build_detector(decode(arch), NUM_CLASSES, constants)


@cache
def shared(arch: str, constants: DetectorConstants = CONSTANTS) -> Detector:
    """A detector that is built once. A test may switch its mode, and leaves it unchanged otherwise."""
    with torch.inference_mode(False):  # else a test in inference mode would leave weights that cannot be trained
        return build(arch, constants=constants)


@cache
def ready(arch: str) -> Detector:
    """A detector in evaluation mode with varied predictions; tests leave it unchanged."""
    with torch.inference_mode(False):
        detector = build(arch).eval()
        spread_predictions(detector)
    return detector


def spread_predictions(detector: nn.Module, seed: int = 0) -> None:
    """Make the last layers' weights large, so that scores and boxes differ, as those of a trained detector do."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in detector.named_parameters():
        if name.endswith(("cls_logits.weight", "cls_score.weight", "location.weight")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        elif name.endswith(("bbox_reg.weight", "bbox_pred.weight", "shape.weight")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.03
        elif name.endswith("location.bias"):  # else nearly no place is likely
            nn.init.zeros_(parameter)
        elif "_head.conv." in name and parameter.ndim == 4:
            # RetinaNet's begin so small that without norms all is alike.
            nn.init.kaiming_normal_(parameter, generator=generator)


def targets(boxes: Sequence[tuple[float, ...]], labels: Sequence[int]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(list(boxes), dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(list(labels)).long(),
    }


TARGETS = (
    targets([(4, 5, 30, 40), (20, 10, 60, 44)], [1, 3]),
    targets([], []),
    targets([(10, 10, 22, 30)], [2]),
)
NO_BOXES = (targets([], []),) * 3


def make_batch(
    truth: Sequence[dict[str, Tensor]] = TARGETS,
    crowd: Sequence[Sequence[bool]] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Batch:
    """Noise images on the landscape canvas of 64x48, twice as large before they were resized.

    Args:
        truth: Boxes and labels of each image.
        crowd: Whether each is a crowd region, padded; by default none is.
        sizes: (height, width) of each image on the canvas.
    """
    generator = torch.Generator().manual_seed(1)
    count = len(truth)
    canvas = canvas_size(64, 48, portrait=False)
    labels = pad_sequence([each["labels"] for each in truth], batch_first=True)
    resized = torch.tensor(sizes or [(48, 64)] * count)
    return Batch(
        images=torch.randint(0, 256, (count, 3, *canvas), generator=generator, dtype=torch.uint8),
        boxes=pad_sequence([each["boxes"] for each in truth], batch_first=True),
        labels=labels,
        crowd=torch.zeros_like(labels, dtype=torch.bool) if crowd is None else torch.tensor(crowd),
        num_boxes=(labels > 0).sum(1),
        image_ids=torch.arange(count),
        sizes=resized,
        original_sizes=resized * 2,
        seeds=torch.randint(2**62, (count,), generator=generator),
    )


def single(batch: Batch, image: int) -> Batch:
    """One image of ``batch``, as a batch."""
    return batch[image : image + 1]


def with_padding(batch: Batch, count: int = 4, value: float = 9.0) -> Batch:
    """``batch`` with ``count`` more rows of padding, whose boxes hold ``value``."""
    images = len(batch)
    empty = torch.zeros(images, count, dtype=torch.int64)
    return replace(
        batch,
        boxes=torch.cat([batch.boxes, torch.full((images, count, 4), value)], dim=1),
        labels=torch.cat([batch.labels, empty], dim=1),
        crowd=torch.cat([batch.crowd, empty.bool()], dim=1),
    )


def random_boxes(generator: torch.Generator, count: int, canvas: float = 64.0, smallest: float = 2.0) -> Tensor:
    """Boxes of all sizes inside a square canvas, Tensor[count, 4]."""
    corner = torch.rand(count, 2, generator=generator) * (canvas - smallest)
    size = smallest + torch.rand(count, 2, generator=generator) ** 2 * (canvas - smallest)
    return torch.cat((corner, (corner + size).clamp(max=canvas)), dim=1)


class KeyedSampler:
    """torchvision's sampler, but of each kind those of the largest keys are chosen, as ours does.

    Args:
        count: Candidates an image.
        share: At most this share of them is positive.
        keys: For each image, Tensor[A].
    """

    def __init__(self, count: int, share: float, keys: Sequence[Tensor]) -> None:
        self.count, self.share, self.keys = count, share, keys
        self.used: list[int] = []
        self.positive: list[int] = []

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        masks: tuple[list[Tensor], list[Tensor]] = ([], [])
        for label, keys in zip(labels, self.keys, strict=True):
            order = keys.argsort(descending=True)
            positive = order[label[order] >= 1][: int(self.count * self.share)]
            negative = order[label[order] == 0][: self.count - len(positive)]
            for mask, chosen in zip(masks, (positive, negative), strict=True):
                mask.append(torch.zeros_like(label, dtype=torch.uint8).index_fill(0, chosen, 1))
            self.positive.append(len(positive))
            self.used.append(len(positive) + len(negative))
        return masks
