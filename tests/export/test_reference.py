"""torchvision's exported detectors find what they find in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from smnas_optuna.export import export_reference
from smnas_optuna.models import REFERENCE_DETECTORS, build_reference_detector
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import open_runner


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFERENCE_DETECTORS))
@pytest.mark.parametrize("portrait", [False, True])
def test_the_file_detects_the_same(name: str, portrait: bool) -> None:
    torch.manual_seed(0)
    detector = build_reference_detector(name, 3, long=96, short=64, score_threshold=0.0)
    description = FileDescription(arch=name, classes=("a", "b", "c"), long=96, short=64, precision="fp32", constants={})
    shape = (1, 3, 96, 64) if portrait else (1, 3, 64, 96)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)

    content = export_reference(detector, description, portrait=portrait)
    runner = open_runner(DetectorFile(name=name, content=content, description=description), num_threads=1)
    found = runner.run(images.numpy(), np.array([shape[2:]]))
    with torch.inference_mode():
        (its,) = detector.model([images[0].float() / 255])

    assert not detector.training
    (count,) = found.counts
    boxes, scores = (torch.from_numpy(each[0, :count]) for each in (found.boxes, found.scores))
    assert matched(its["boxes"], its["scores"], boxes, scores) >= 0.98 * max(count, len(its["scores"])) > 0
    assert not found.boxes[0, count:].any()


def matched(boxes: Tensor, scores: Tensor, others: Tensor, other_scores: Tensor) -> int:
    """Number of boxes that have a like: random scores tie, and their order is open."""
    alike = (box_iou(boxes, others) > 0.999) & ((scores[:, None] - other_scores).abs() < 1e-5)
    return int(alike.any(dim=1).sum())
