"""Names in exported files and of what runs them."""

from __future__ import annotations

from typing import Literal

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "labels", "scores", "counts")
FREE_DIMENSIONS = ("batch", "height", "width")
"""Names of the free dimensions: ``images`` is [batch, 3, height, width], ``sizes`` is [batch, 2]."""

Runtime = Literal["onnxruntime", "openvino", "cuda", "tensorrt"]
Shape = tuple[int, int, int, int]
"""Shape of ``images``: (batch, 3, height, width)."""
