"""Anchors per pyramid level, in pixels of the canvas: one RPN scale, or RetinaNet's three."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height / width, of both detectors (Ren et al. 2015; Lin et al. 2017)."""


class PyramidAnchors(AnchorGenerator):
    """torchvision's anchors at the levels' own strides.

    torchvision divides the canvas by each grid, which is wrong for sub-sampled levels: p6 of a canvas of 96 px has two
    places, 64 px apart and not 48.

    Args:
        levels: Pyramid levels; level ``l`` has stride ``2**l``.
        sizes: Edges of the square anchors of each level, pixels.
    """

    def __init__(self, levels: Sequence[int], sizes: Sequence[tuple[float, ...]]) -> None:
        super().__init__(tuple(sizes), (ASPECT_RATIOS,) * len(sizes))
        self.strides = [2**level for level in levels]

    def grid_anchors(self, grid_sizes: list[list[int]], _: list[list[Tensor]]) -> list[Tensor]:
        """(height, width) of each level's grid -> Tensor[A, 4] a level; the guessed strides are not used."""
        return super().grid_anchors(grid_sizes, [[stride, stride] for stride in self.strides])  # type: ignore[no-any-return]


def rpn_anchors(levels: Sequence[int], scale: float) -> AnchorGenerator:
    """Anchors of ``scale`` strides on every level, 3 ratios each."""
    return PyramidAnchors(levels, [(scale * 2**level,) for level in levels])


def retina_anchors(levels: Sequence[int], scale: float) -> AnchorGenerator:
    """Anchors of ``scale / 2`` strides and the two thirds of the octave above, 3 ratios each.

    With the classic scale of 8 they are RetinaNet's: 32, 40 and 50 px at stride 8 (Lin et al. 2017, section 4).
    """
    sizes = [tuple(int(scale / 2 * 2**level * 2 ** (third / 3)) for third in range(3)) for level in levels]
    return PyramidAnchors(levels, sizes)
