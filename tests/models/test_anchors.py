from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from smnas_optuna.models.anchors import PyramidAnchors, retina_anchors, rpn_anchors


def _anchors(generator: PyramidAnchors, levels: Sequence[int], height: int, width: int) -> list[Tensor]:
    """The anchors of each level of a canvas."""
    grids = [(-(-height // 2**level), -(-width // 2**level)) for level in levels]
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    boxes = generator(images, [torch.zeros(1, 8, *grid) for grid in grids])[0]
    counts = [h * w * n for (h, w), n in zip(grids, generator.num_anchors_per_location(), strict=True)]
    return list(boxes.split(counts))


@pytest.mark.parametrize("make", [rpn_anchors, retina_anchors])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (800, 1344), (64, 64)])
def test_places_of_a_level_are_its_stride_apart(
    make: Callable[[Sequence[int], float], PyramidAnchors], height: int, width: int
) -> None:
    levels = range(2, 8)
    generator = make(levels, 8.0)
    per_place = generator.num_anchors_per_location()[0]

    for level, anchors in zip(levels, _anchors(generator, levels, height, width), strict=True):
        stride = 2**level
        centres = (anchors[::per_place, :2] + anchors[::per_place, 2:]) / 2
        rows, columns = -(-height // stride), -(-width // stride)
        expected = [(x * stride, y * stride) for y in range(rows) for x in range(columns)]
        assert centres.tolist() == [list(map(float, place)) for place in expected]


def test_rpn_anchors_have_the_area_of_their_scale_and_three_ratios() -> None:
    levels = (3, 5)

    for level, anchors in zip(levels, _anchors(rpn_anchors(levels, 8.0), levels, 64, 64), strict=True):
        size = anchors[:3, 2:] - anchors[:3, :2]
        ratios = (size[:, 1] / size[:, 0]).tolist()
        assert ratios == pytest.approx([0.5, 1.0, 2.0], rel=0.05)  # anchors are rounded to whole pixels
        assert size.prod(1).sqrt().tolist() == pytest.approx([8.0 * 2**level] * 3, rel=0.05)


def test_retina_anchors_are_the_published_ones() -> None:
    size = _anchors(retina_anchors((3,), 8.0), (3,), 32, 32)[0][:9]
    edges = (size[:, 2:] - size[:, :2]).prod(1).sqrt()

    # three octave scales from 32 px, of each ratio (Lin et al. 2017, section 4)
    expected = sorted(32 * 2 ** (third / 3) for third in range(3) for _ in range(3))
    assert sorted(edges.tolist()) == pytest.approx(expected, rel=0.06)
    assert math.isclose(edges.max().item() / edges.min().item(), 2 ** (2 / 3), rel_tol=0.1)
