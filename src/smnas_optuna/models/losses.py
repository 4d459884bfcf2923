"""Losses of single candidates; callers sample and average them.

Targets of candidates that are not positive are replaced, because values that are not finite would spoil every gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
"""Lin et al. 2017, section 4.1."""
BOX_BETA = 1 / 9
"""Error at which smooth L1 becomes linear, as in torchvision's two-stage detectors."""
SHAPE_BETA = 0.2
"""Beta of the bounded IoU loss, as in the code of Guided Anchoring."""


def binary_losses(logits: Tensor, positive: Tensor, used: Tensor) -> Tensor:
    """Binary cross-entropy of ``logits`` with ``positive``, Tensor[B, N]; 0 where not ``used``."""
    return F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none") * used


def box_losses(deltas: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
    """Smooth L1 loss with beta 1/9 of each positive's four deltas, summed: Tensor[..., 4] -> Tensor[...].

    The beta is that of torchvision's detectors (Ren et al.'s code). Targets may have any value where not positive.
    """
    targets = torch.where(positive[..., None], targets, 0.0)
    return F.smooth_l1_loss(deltas, targets, beta=BOX_BETA, reduction="none").sum(dim=-1) * positive


def focal_losses(logits: Tensor, positive: Tensor) -> Tensor:
    """Focal loss of each logit (Lin et al. 2017, eq. 5), Tensor[...]; computed by torchvision."""
    loss: Tensor = sigmoid_focal_loss(logits, positive.to(logits.dtype), FOCAL_ALPHA, FOCAL_GAMMA)
    return loss


def shape_losses(anchors: Tensor, boxes: Tensor, positive: Tensor) -> Tensor:
    """Bounded IoU loss of width and height (Wang et al. 2019, eq. 5): Tensor[..., 4] both -> Tensor[...]."""
    sizes = anchors[..., 2:] - anchors[..., :2]
    wanted = torch.where(positive[..., None], boxes[..., 2:] - boxes[..., :2], 1.0)
    distance = 1 - torch.minimum(sizes / wanted, wanted / sizes.clamp(min=1e-6))
    losses = F.smooth_l1_loss(distance, torch.zeros_like(distance), beta=SHAPE_BETA, reduction="none")
    return losses.sum(dim=-1) * positive
