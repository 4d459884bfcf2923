"""Sizes that are the same in every trace of a detector."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def known(size: int | Tensor) -> int:
    """Return a traced size as a number that is a constant of the trace.

    Its caller knows that it is the same on both canvases of a detector, such as the number of places of a map.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return int(size)
