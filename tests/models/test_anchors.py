from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from smnas_optuna.models.anchors import PyramidAnchors, approximate_anchors, retina_anchors, rpn_anchors, square_anchors


def _anchors(generator: PyramidAnchors, levels: Sequence[int], height: int, width: int) -> list[Tensor]:
    """The anchors of each level of a canvas."""
    return generator.of([torch.zeros(1, 8, -(-height // 2**level), -(-width // 2**level)) for level in levels])


@pytest.mark.parametrize("make", [rpn_anchors, retina_anchors, square_anchors, approximate_anchors])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (800, 1344), (64, 64)])
def test_places_of_a_level_are_its_stride_apart(
    make: Callable[[Sequence[int], float], PyramidAnchors], height: int, width: int
) -> None:
    levels = range(2, 8)
    generator = make(levels, 8.0)
    per_place = generator.per_place

    for level, anchors in zip(levels, _anchors(generator, levels, height, width), strict=True):
        stride = 2**level
        centres = (anchors[::per_place, :2] + anchors[::per_place, 2:]) / 2
        rows, columns = -(-height // stride), -(-width // stride)
        assert len(anchors) == rows * columns * per_place
        row_by_row = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        assert torch.equal(centres, row_by_row.flip(1) * float(stride))


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


@pytest.mark.parametrize("make", [rpn_anchors, approximate_anchors])
def test_a_single_level_has_five_scales_of_three_ratios(make: Callable[[Sequence[int], float], PyramidAnchors]) -> None:
    generator = make((4,), 8.0)
    size = _anchors(generator, (4,), 16, 16)[0]
    size = size[:, 2:] - size[:, :2]

    assert generator.per_place == len(size) == 15
    edges = size.prod(1).sqrt().sort().values.tolist()
    # 2 to 32 strides of 16 px, as in the paper
    assert edges == pytest.approx([edge for edge in (32, 64, 128, 256, 512) for _ in range(3)], rel=0.03)
    assert sorted((size[:, 1] / size[:, 0]).tolist()) == pytest.approx([0.5] * 5 + [1] * 5 + [2] * 5, rel=0.05)


def test_guided_anchoring_has_one_square_a_place_and_nine_shapes_that_stand_for_the_predicted_ones() -> None:
    levels = (3, 4)
    square, shapes, retina = (
        _anchors(make(levels, scale), levels, 8, 8)[0]
        for make, scale in ((square_anchors, 4.0), (approximate_anchors, 4.0), (retina_anchors, 8.0))
    )

    assert square.tolist() == [[-16, -16, 16, 16]]  # 4 strides of 8 px
    assert len(shapes) == 9
    torch.testing.assert_close(shapes, retina, atol=1, rtol=0)  # RetinaNet's start at half its scale, of whole pixels


def test_anchors_are_made_once_and_may_be_trained_with_after_a_detection() -> None:
    generator = rpn_anchors((3, 4), 8.0)
    maps = [torch.zeros(1, 8, 6, 8), torch.zeros(1, 8, 3, 4)]
    with torch.inference_mode():
        first = generator.of(maps)

    again, others = generator.of(maps), generator.of([each.mT for each in maps])

    assert all(one is other for one, other in zip(first, again, strict=True))
    assert not any(each.is_inference() for each in first)
    assert not torch.equal(others[0], first[0])
    delta = torch.ones(len(first[0]), 4, requires_grad=True)
    (delta * again[0]).sum().backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
