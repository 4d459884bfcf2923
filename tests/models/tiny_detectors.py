"""Detectors and batches that take milliseconds on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch, canvas_size
from smnas_optuna.models import Detector, build_detector

NUM_CLASSES = 3
ONE_STAGE = "64x48.resnet18-w8.fpn-p3-p6-c8.none.retina"
TWO_STAGE = "64x48.resnet18-w8.fpn-p2-p6-c8.rpn.fc-w16"
ARCHS = (ONE_STAGE, TWO_STAGE)

CONSTANTS = DetectorConstants(
    anchor_scale=4.0,
    train_proposals=50,
    test_proposals=40,
    rpn_samples=32,
    roi_samples=32,
    score_threshold=0.0,
    max_detections=20,
)


def build(arch: str, seed: int = 0, constants: DetectorConstants = CONSTANTS) -> Detector:
    torch.manual_seed(seed)
    return build_detector(decode(arch), NUM_CLASSES, constants)


def spread_predictions(detector: nn.Module, seed: int = 0) -> None:
    """Make the last layers' weights large, so that scores and boxes differ, as those of a trained detector do."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in detector.named_parameters():
        if name.endswith((".cls_logits.weight", ".cls_score.weight")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        elif name.endswith((".bbox_reg.weight", ".bbox_pred.weight")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.03


def targets(boxes: list[tuple[float, ...]], labels: list[int]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(labels).long()}


TARGETS = (
    targets([(4, 5, 30, 40), (20, 10, 60, 44)], [1, 3]),
    targets([], []),
    targets([(10, 10, 22, 30)], [2]),
)


def make_batch(truth: tuple[dict[str, Tensor], ...] = TARGETS, crowd: list[list[bool]] | None = None) -> Batch:
    """Noise images on the landscape canvas of 64x48, twice as large before they were resized."""
    generator = torch.Generator().manual_seed(1)
    count = len(truth)
    labels = pad_sequence([each["labels"] for each in truth], batch_first=True)
    return Batch(
        images=torch.randint(
            0, 256, (count, 3, *canvas_size(64, 48, portrait=False)), generator=generator, dtype=torch.uint8
        ),
        boxes=pad_sequence([each["boxes"] for each in truth], batch_first=True),
        labels=labels,
        crowd=torch.zeros_like(labels, dtype=torch.bool) if crowd is None else torch.tensor(crowd),
        num_boxes=(labels > 0).sum(1),
        image_ids=torch.arange(count),
        sizes=torch.tensor([[48, 64]] * count),
        original_sizes=torch.tensor([[96, 128]] * count),
    )
