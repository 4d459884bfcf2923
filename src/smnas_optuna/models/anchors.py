"""Anchors per pyramid level, in pixels of the canvas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Aspect ratios (height / width) of all detectors (Ren et al. 2015; Lin et al. 2017)."""
OCTAVE_SCALES = tuple(2 ** (third / 3) for third in range(3))
"""RetinaNet's three scales per octave (Lin et al. 2017, section 4); Guided Anchoring approximates shapes by them."""
SINGLE_LEVEL_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Scales if a single level detects objects of all sizes: 2 to 32 strides with the classic scale 8, as in the paper."""


class PyramidAnchors(AnchorGenerator):
    """torchvision's anchors, with the strides of the levels.

    torchvision computes strides as canvas size / grid size. That is wrong for sub-sampled levels: p6 of a canvas of
    96 px has two locations, which are 64 px apart and not 48.

    Args:
        levels: Pyramid levels; level ``l`` has stride ``2**l``.
        sizes: Edges of the square anchors of each level, pixels; the same number on every level.
        ratios: Aspect ratios, height / width; each is combined with each size.
    """

    def __init__(
        self, levels: Sequence[int], sizes: Sequence[tuple[float, ...]], ratios: tuple[float, ...] = ASPECT_RATIOS
    ) -> None:
        super().__init__(tuple(sizes), (ratios,) * len(sizes))
        self.strides = [2**level for level in levels]
        self.per_place = len(sizes[0]) * len(ratios)
        self._made: dict[tuple[object, ...], list[Tensor]] = {}

    def of(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors of each map: Tensor[B, C, H, W] -> Tensor[H * W * per_place, 4], location by location.

        They are cached, because building them copies numbers to the GPU, which synchronizes. A trace, whose shapes are
        symbols, gets its own.
        """
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            return self._make(maps)
        key = (maps[0].device, *((each.shape[-2], each.shape[-1]) for each in maps))
        if key not in self._made:
            # Not as inference tensors, because training could not use those later.
            with torch.inference_mode(False):
                self._made[key] = self._make(maps)
        return self._made[key]

    def _make(self, maps: Sequence[Tensor]) -> list[Tensor]:
        self.set_cell_anchors(torch.float32, maps[0].device)
        grids = [[each.shape[-2], each.shape[-1]] for each in maps]
        made: list[Tensor] = self.grid_anchors(grids, [[stride, stride] for stride in self.strides])
        return made


def rpn_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """Return anchors of ``scale`` strides on every level, 3 ratios each; a single level has five scales around it."""
    scales = SINGLE_LEVEL_SCALES if len(levels) == 1 else (1.0,)
    return PyramidAnchors(levels, [tuple(scale * 2**level * factor for factor in scales) for level in levels])


def retina_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """Return anchors of ``scale / 2`` strides and at the two thirds of the octave above, 3 ratios each.

    With the classic scale of 8 they are RetinaNet's: 32, 40 and 50 px at stride 8 (Lin et al. 2017, section 4).
    """
    return PyramidAnchors(levels, [tuple(int(scale / 2 * 2**level * s) for s in OCTAVE_SCALES) for level in levels])


def square_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """Return one square of ``scale`` strides per location, the reference of Guided Anchoring's predicted shapes."""
    return PyramidAnchors(levels, [(scale * 2**level,) for level in levels], ratios=(1.0,))


def approximate_anchors(levels: Sequence[int], scale: float) -> PyramidAnchors:
    """Return anchors that approximate the shapes that Guided Anchoring may predict at a location.

    They have 3 scales per octave x 3 ratios. On a single level, which detects objects of all sizes, they are the RPN's
    15 anchors.
    """
    if len(levels) == 1:
        return rpn_anchors(levels, scale)
    return PyramidAnchors(levels, [tuple(scale * 2**level * s for s in OCTAVE_SCALES) for level in levels])
