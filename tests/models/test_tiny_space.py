from __future__ import annotations

import random

import pytest
import torch

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import StructuralSpace
from smnas_optuna.models import build_detector
from smnas_optuna.search_space.structural import express, gene_choices

from .tiny_detectors import CONSTANTS, NUM_CLASSES, make_batch

SPACE = StructuralSpace(
    input_sizes=("64x48", "64x64"),
    backbone_widths=(4, 8),
    neck_min_levels=(2, 3, 4),
    neck_max_levels=(5, 6, 7),
    neck_channels=(4, 8),
    head_widths=(8, 16),
)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_architecture_builds_trains_a_step_and_detects(seed: int) -> None:
    dice = random.Random(seed)
    spec = express({name: dice.choice(choices) for name, choices in gene_choices(SPACE).items()})
    torch.manual_seed(seed)
    detector = build_detector(spec, NUM_CLASSES, CONSTANTS).train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3)
    batch = make_batch()

    loss = torch.stack(list(detector.losses(batch).values())).sum()
    torch.autograd.backward(loss)
    optimizer.step()

    assert loss.isfinite(), encode(spec)
    with torch.inference_mode():
        found = detector.eval().detect(batch)
        alone = detector([torch.rand(3, 30, 40)])
    assert len(found) == len(batch)
    assert all(detections["boxes"].isfinite().all() for detections in [*found, *alone])


@pytest.mark.parametrize("head", ["none.retina", "rpn.fc-w8"])
@torch.inference_mode()
def test_one_image_is_detected_where_the_top_level_is_a_single_place(head: str) -> None:
    """A latency is measured on one image: a group of a single value cannot be normalised."""
    detector = build_detector(decode(f"32x32.resnet18-w4.fpn-p4-p7-c4.{head}"), NUM_CLASSES, CONSTANTS).eval()

    assert len(detector([torch.rand(3, 32, 32)])) == 1
