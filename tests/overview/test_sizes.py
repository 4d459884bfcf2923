from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from smnas_optuna.arch import DetectorConstants, InputSize
from smnas_optuna.config.settings import StructuralSpace
from smnas_optuna.models.anchors import rpn_anchors
from smnas_optuna.overview.sizes import LONGEST_CHART, Anchor, anchors_of, best_iou, input_scales, nearest, sizes_at
from smnas_optuna.runtime.canvas import fit_inside

from .made import objects, scattered

PYRAMID = anchors_of(StructuralSpace(neck_min_levels=(2, 3), neck_max_levels=(5,)), DetectorConstants())


def test_anchors_are_those_of_the_widest_pyramid() -> None:
    assert [(anchor.level, anchor.edge) for anchor in PYRAMID] == [(2, 32), (3, 64), (4, 128), (5, 256)]


def test_a_space_without_pyramids_has_several_sizes_on_one_level() -> None:
    space = StructuralSpace(necks=("c4",), heads=("fc",))
    anchors = anchors_of(space, DetectorConstants(anchor_scale=4))

    assert [(anchor.level, anchor.edge) for anchor in anchors] == [(4, 16), (4, 32), (4, 64), (4, 128), (4, 256)]


@pytest.mark.parametrize("necks", [("fpn",), ("c4",)], ids=str)
def test_the_best_iou_is_that_with_the_anchors_of_the_detectors(necks: tuple[str]) -> None:
    anchors = anchors_of(StructuralSpace(necks=necks, heads=("fc",)), DetectorConstants(anchor_scale=16))  # type: ignore[arg-type]
    levels = sorted({anchor.level for anchor in anchors})
    made = rpn_anchors(levels, 16)
    made.set_cell_anchors(torch.float32, torch.device("cpu"))
    edges = np.random.default_rng(0).uniform(2, 900, (50, 2))
    half = torch.tensor(edges) / 2

    # torchvision rounds the corners of its anchors
    expected = box_iou(torch.cat([-half, half], dim=1).float(), torch.cat(list(made.cell_anchors))).amax(1)

    assert best_iou(edges, anchors) == pytest.approx(expected.numpy(), abs=0.03)


def test_images_are_scaled_as_the_detectors_do() -> None:
    sizes = np.array([(640, 480), (480, 640), (100, 1000), (32, 32)])

    for (width, height), scale in zip(sizes.tolist(), input_scales(sizes.astype(float), 320, 240), strict=True):
        assert fit_inside(height, width, 320, 240) == (round(height * scale), round(width * scale))


def test_the_nearest_anchor_is_nearest_as_a_ratio() -> None:
    lengths = np.array([1, 45, 46, 90, 91, 5000])  # 32 * sqrt(2) = 45.25, 64 * sqrt(2) = 90.5

    assert nearest(lengths, PYRAMID).tolist() == [0, 0, 1, 1, 2, 3]


def test_objects_are_measured_in_pixels_of_the_input() -> None:
    some = objects([[(0, 0, 14, 14)], [(0, 0, 16, 16), (0, 0, 64, 64)]], sizes=[(200, 100), (200, 100)])
    at = sizes_at(some, "100x50", InputSize(long=100, short=50), PYRAMID)

    assert (at.name, at.scale, at.median) == ("100x50", 0.5, 8)
    assert at.small == pytest.approx(1 / 3)  # 7 px; 8 are not below 8
    assert at.unfit == pytest.approx(2 / 3)
    assert [(round(each.low, 1), round(each.high, 1)) for each in at.bins] == [
        *((5.7, 8.0), (8.0, 11.3), (11.3, 16.0), (16.0, 22.6), (22.6, 32.0), (32.0, 45.3)),
    ]
    assert [each.share for each in at.bins] == pytest.approx([1 / 3, 1 / 3, 0, 0, 0, 1 / 3])


@pytest.mark.parametrize("seed", range(5))
def test_each_bin_is_of_the_anchor_of_its_objects(seed: int) -> None:
    at = sizes_at(scattered(seed), "300x300", InputSize(long=300, short=300), PYRAMID)
    lengths = 3 * scattered(seed).lengths

    assert sum(each.share for each in at.bins) == pytest.approx(1)
    for each in at.bins:
        inside = lengths[(lengths >= each.low) & (lengths < each.high)]
        assert len(inside) / len(lengths) == pytest.approx(each.share)
        assert {PYRAMID[place] for place in nearest(inside, PYRAMID)} <= {each.anchor}


def test_what_is_too_small_to_see_is_in_the_first_bin() -> None:
    some = objects([[(0, 0, 0.1, 0.1), (0, 0, 2, 2), (0, 0, 5, 5), (0, 0, 7, 7)]])
    first, second, *others = sizes_at(some, "100x100", InputSize(long=100, short=100), PYRAMID).bins

    assert (first.low, round(first.high, 9), first.share) == (0, 4, 0.5)
    assert (second.share, [each.share for each in others]) == (0.25, [0.25])


def test_only_what_is_too_small_is_one_bin() -> None:
    some = objects([[(0, 0, 0.1, 0.1), (0, 0, 1, 1)]])
    (only,) = sizes_at(some, "100x100", InputSize(long=100, short=100), PYRAMID).bins

    assert (only.low, only.high > 1, only.share) == (0, True, 1)


@pytest.mark.parametrize("common", [40, 1000])
def test_what_is_far_out_is_in_the_end_bins(common: int) -> None:
    some = objects([[(0, 0, common, common)] * 50 + [(0, 0, 1e-3, 1e-3), (0, 0, 3900, 3900)]], size=(4000, 4000))
    at = sizes_at(some, "4000x4000", InputSize(long=4000, short=4000), PYRAMID)
    first, *_, last = at.bins

    assert len(at.bins) == LONGEST_CHART
    assert sum(each.share for each in at.bins) == pytest.approx(1)
    assert first.low == 0
    assert first.share == pytest.approx(1 / 52)
    assert last.share == pytest.approx(1 / 52)
    assert math.isinf(last.high) == (common == 40)
    assert last.anchor == PYRAMID[-1]


def test_no_objects_are_no_fault() -> None:
    at = sizes_at(objects([[], []]), "64x64", InputSize(long=64, short=64), [Anchor(level=2, edge=32)])

    assert (at.median, at.small, at.unfit, at.bins) == (0, 0, 0, ())
