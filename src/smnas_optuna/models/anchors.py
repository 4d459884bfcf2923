"""Anchors per pyramid level, in pixels of the canvas: one RPN scale, or RetinaNet's three."""

from __future__ import annotations

from collections.abc import Sequence

from torchvision.models.detection.anchor_utils import AnchorGenerator

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height / width, of both detectors (Ren et al. 2015; Lin et al. 2017)."""


def rpn_anchors(levels: Sequence[int], scale: float) -> AnchorGenerator:
    """Anchors of ``scale`` strides on every level, 3 ratios each."""
    return _anchors([(scale * 2**level,) for level in levels])


def retina_anchors(levels: Sequence[int], scale: float) -> AnchorGenerator:
    """Anchors of ``scale / 2`` strides and the two thirds of the octave above, 3 ratios each.

    With the classic scale of 8 they are RetinaNet's: 32, 40 and 50 px at stride 8 (Lin et al. 2017, section 4).
    """
    return _anchors([tuple(int(scale / 2 * 2**level * 2 ** (third / 3)) for third in range(3)) for level in levels])


def _anchors(sizes: list[tuple[float, ...]]) -> AnchorGenerator:
    return AnchorGenerator(tuple(sizes), (ASPECT_RATIOS,) * len(sizes))
