"""Box operations on a whole batch: IoU, coding, clipping. Boxes are (x1, y1, x2, y2) in pixels of the canvas.

torchvision has the same operations for one image. These have fixed shapes and never synchronize with a GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_GROWTH = math.log(1000.0 / 16)
"""A decoded edge is at most exp(this) times the reference's edge, as in torchvision's detectors."""

Weights = tuple[float, float, float, float]


def box_areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes Tensor[..., 4] in square pixels, Tensor[...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """Return pairwise intersections of Tensor[..., M, 4] and Tensor[..., N, 4] in square pixels, Tensor[..., M, N]."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    across, down = (high - low).clamp_(min=0).unbind(-1)
    return across * down


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return pairwise IoU of Tensor[..., M, 4] and Tensor[..., N, 4], in 0..1: Tensor[..., M, N].

    The IoU of two boxes without area is 0, where torchvision returns NaN.
    """
    shared = intersections(boxes, others)
    union = box_areas(boxes)[..., :, None] + box_areas(others)[..., None, :] - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def encode_boxes(boxes: Tensor, references: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return the deltas Tensor[..., 4] of ``boxes`` relative to ``references`` (Girshick et al. 2014, appendix C).

    Deltas are not finite for a box or a reference without area: mask them.
    """
    centres, sizes = _centres(references)
    target_centres, target_sizes = _centres(boxes)
    shift, growth = (target_centres - centres) / sizes, (target_sizes / sizes).log()
    wx, wy, ww, wh = weights
    return torch.stack((wx * shift[..., 0], wy * shift[..., 1], ww * growth[..., 0], wh * growth[..., 1]), dim=-1)


def decode_boxes(deltas: Tensor, references: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Apply ``deltas`` to ``references`` and return boxes Tensor[..., 4]; the inverse of :func:`encode_boxes`."""
    centres, sizes = _centres(references)
    wx, wy, ww, wh = weights
    shift = _divided(deltas[..., :2], wx, wy)
    growth = _divided(deltas[..., 2:], ww, wh).clamp(max=MAX_GROWTH)
    centres, half = centres + shift * sizes, 0.5 * growth.exp() * sizes
    return torch.cat((centres - half, centres + half), dim=-1)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip ``boxes``, Tensor[B, ..., 4], to images of ``sizes``, Tensor[B, 2] of (height, width)."""
    limits = sizes.to(boxes.dtype).flip(-1).repeat(1, 2).view(-1, *(1,) * (boxes.ndim - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limits)


def shorter_edges(boxes: Tensor) -> Tensor:
    """Return the shorter edges of boxes Tensor[..., 4] in pixels, Tensor[...]."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(dim=-1)


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Select rows of each image: ``rows`` Tensor[B, N, ...] at ``index``, int64 Tensor[B, K] -> Tensor[B, K, ...].

    Returns zeros if N = 0, as for the boxes of a batch that has none.
    """
    shape = (*index.shape, *rows.shape[2:])
    if rows.shape[1] == 0:
        return rows.new_zeros(shape)
    return rows.gather(1, index.view(*index.shape, *(1,) * (rows.ndim - 2)).expand(shape))


def _divided(pairs: Tensor, by_first: float, by_second: float) -> Tensor:
    """Divide the two columns of Tensor[..., 2], at once if the divisors are equal, as in all detectors here."""
    if by_first == by_second:
        return pairs / by_first
    return torch.stack((pairs[..., 0] / by_first, pairs[..., 1] / by_second), dim=-1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres (x, y) and sizes (width, height), Tensor[..., 2] each."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes
