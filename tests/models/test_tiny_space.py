from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.arch.codec import NO_PYRAMID, head_kind, rpn_kind
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, EXTRA_LEVELS
from smnas_optuna.config import StructuralSpace
from smnas_optuna.models import build_detector
from smnas_optuna.search_space.structural import express, gene_choices

from .tiny_detectors import CONSTANTS, NUM_CLASSES, make_batch

# The deep ones take seconds, and are made of the same blocks.
FAMILIES = tuple(family for family in BACKBONE_FAMILIES if not family.endswith("101"))
SPACE = StructuralSpace(
    input_sizes=("64x48", "64x64"),
    backbones=FAMILIES,
    backbone_widths=(4, 8),
    necks=("fpn", "c4"),
    neck_min_levels=(2, 3, 4),
    neck_max_levels=(5, 6, 7),
    neck_channels=(4, 8),
    neck_extras=EXTRA_LEVELS,
    rpns=("rpn", "ga"),
    heads=("retina", "fc", "cascade2", "cascade3"),
    head_widths=(8, 16),
)
SEEDS = range(23, 35)
"""They reach every kind of module; a test says so."""


def _spec(seed: int) -> DetectorSpec:
    dice = random.Random(seed)
    return express({name: dice.choice(choices) for name, choices in gene_choices(SPACE).items()})


def test_the_seeds_reach_every_kind_of_module() -> None:
    specs = [_spec(seed) for seed in SEEDS]

    assert {encode(spec).split(".")[1].split("-")[0] for spec in specs} == set(FAMILIES)
    assert {NO_PYRAMID if spec.neck is None else spec.neck.extra for spec in specs} == {
        NO_PYRAMID,
        None,
        *EXTRA_LEVELS,
    }
    assert {rpn_kind(spec.rpn) for spec in specs} == {"none", *SPACE.rpns}
    assert {head_kind(spec.head) for spec in specs} == set(SPACE.heads)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_architecture_builds_trains_a_step_and_detects(seed: int) -> None:
    spec = _spec(seed)
    torch.manual_seed(seed)
    detector = build_detector(spec, NUM_CLASSES, CONSTANTS).train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3)
    batch = make_batch()

    loss = torch.stack(list(detector.losses(batch).values())).sum()
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
    optimizer.step()

    assert loss.isfinite(), encode(spec)
    assert norm.isfinite(), encode(spec)
    with torch.inference_mode():
        found = detector.eval().detect(batch)
        alone = detector([torch.rand(3, 30, 40)])
    assert len(found) == len(batch)
    assert all(detections["boxes"].isfinite().all() for detections in [*found, *alone])


@pytest.mark.parametrize(
    "modules",
    [
        "fpn-p4-p7-c4.none.retina",
        "fpn-p4-p7-c4-convp5.rpn.fc-w8",
        "fpn-p4-p7-c4.ga.cascade2-w8",
        "c4.rpn.fc",
        "c4.ga.fc",
    ],
)
@torch.inference_mode()
def test_one_image_is_detected_where_the_top_level_is_a_single_place(modules: str) -> None:
    """A latency is measured on one image: a group of a single value cannot be normalised."""
    detector = build_detector(decode(f"32x32.resnet18-w4.{modules}"), NUM_CLASSES, CONSTANTS).eval()

    assert len(detector([torch.rand(3, 32, 32)])) == 1
