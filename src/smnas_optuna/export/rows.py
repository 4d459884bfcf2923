"""Rows of every image by their places, in few operators."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(values: Tensor, index: Tensor, width: int, batch: int) -> Tensor:
    """Select rows of each image: ``values`` Tensor[B, N, width] at ``index``, int64 Tensor[B, K] -> [B, K, width].

    It is one look-up in the rows of all images; torch's ``gather`` needs an index for every number. ``batch`` is ``B``,
    and a constant where the shape of the images is one, even if ``N`` is not.
    """
    first = torch.arange(batch, device=index.device)[:, None] * values.shape[1]
    return values.reshape(-1, width)[(index + first)]
