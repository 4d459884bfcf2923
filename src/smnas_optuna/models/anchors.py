"""Anchors per pyramid level, in pixels of the canvas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height / width, of all detectors (Ren et al. 2015; Lin et al. 2017)."""
OCTAVE_SCALES = tuple(2 ** (third / 3) for third in range(3))
"""RetinaNet's three scales an octave (Lin et al. 2017, section 4); Guided Anchoring approximates shapes by them."""
SINGLE_LEVEL_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Scales where one level sees objects of all sizes: 2 to 32 strides with the classic anchor of 8, as in the paper."""


class PyramidAnchors(AnchorGenerator):
    """torchvision's anchors at the levels' own strides.

    torchvision divides the canvas by each grid, which is wrong for sub-sampled levels: p6 of a canvas of 96 px has two
    places, 64 px apart and not 48.

    Args:
        levels: Pyramid levels; level ``l`` has stride ``2**l``.
        sizes: Edges of the square anchors of each level, pixels; as many on every level.
        ratios: Height / width; an anchor for each with each size.
    """

    def __init__(
        self, levels: Sequence[int], sizes: Sequence[tuple[float, ...]], ratios: tuple[float, ...] = ASPECT_RATIOS
    ) -> None:
        super().__init__(tuple(sizes), (ratios,) * len(sizes))
        self.strides = [2**level for level in levels]
        self.per_place = len(sizes[0]) * len(ratios)
        self._made: dict[tuple[object, ...], list[Tensor]] = {}

    def of(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The anchors of each level's map, Tensor[B, C, H, W] -> Tensor[H * W * per_place, 4], place by place.

        They are kept: to make them again would copy numbers to a GPU, which waits for that.
        """
        grids = [[each.shape[-2], each.shape[-1]] for each in maps]
        key = (maps[0].device, *map(tuple, grids))
        if key not in self._made:
            # Not as inference tensors, which training could not use later.
            with torch.inference_mode(False):
                self.set_cell_anchors(torch.float32, maps[0].device)
                self._made[key] = self.grid_anchors(grids, [[stride, stride] for stride in self.strides])
        return self._made[key]


def rpn_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """Anchors of ``scale`` strides on every level, 3 ratios each; on a single level five scales around that."""
    scales = SINGLE_LEVEL_SCALES if len(levels) == 1 else (1.0,)
    return PyramidAnchors(levels, [tuple(scale * 2**level * factor for factor in scales) for level in levels])


def retina_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """Anchors of ``scale / 2`` strides and the two thirds of the octave above, 3 ratios each.

    With the classic scale of 8 they are RetinaNet's: 32, 40 and 50 px at stride 8 (Lin et al. 2017, section 4).
    """
    return PyramidAnchors(levels, [tuple(int(scale / 2 * 2**level * s) for s in OCTAVE_SCALES) for level in levels])


def square_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """One square of ``scale`` strides a place: what Guided Anchoring's predicted shapes are relative to."""
    return PyramidAnchors(levels, [(scale * 2**level,) for level in levels], ratios=(1.0,))


def approximate_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """The shapes that stand for all that Guided Anchoring may predict at a place: 3 scales an octave x 3 ratios.

    On a single level, which sees objects of all sizes, the RPN's 15.
    """
    if len(levels) == 1:
        return rpn_anchors(levels, scale)
    return PyramidAnchors(levels, [tuple(scale * 2**level * s for s in OCTAVE_SCALES) for level in levels])
