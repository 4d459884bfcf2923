"""Names of operators in the exported file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Named(nn.Module):
    """Calls ``function``. Its operators in a trace have the name that the module has as an attribute.

    Args:
        function: Takes tensors and plain values.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any) -> Any:
        """Return what the function returns."""
        return self._function(*args)
