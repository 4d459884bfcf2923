"""Numbers in a trace: which of them are constants, and which follow from the shape of the images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def known(size: int | Tensor) -> int:
    """Return a traced size as a number that is a constant of the trace.

    Its caller knows that it is the same on both canvases of a detector, such as the number of places of a map.
    """
    with constants_are_meant():
        return int(size)


def constants(values: Sequence[float]) -> Tensor:
    """Return float32 Tensor[N], a constant of the trace."""
    with constants_are_meant():
        return torch.tensor(values)


def as_tensor(size: int | Tensor) -> Tensor:
    """Return a size as int64 Tensor[]; in a trace it is one already, and stays a part of the trace."""
    return size if isinstance(size, Tensor) else torch.tensor(size)


@contextmanager
def constants_are_meant() -> Iterator[None]:
    """Allow that numbers inside are constants of the trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
