"""Names in exported files, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "labels", "scores", "counts")
FREE_DIMENSIONS = ("batch", "height", "width")
"""Names of the free dimensions: ``images`` is [batch, 3, height, width], ``sizes`` is [batch, 2]."""

Runtime = Literal["onnxruntime", "openvino", "cuda", "tensorrt"]
Shape = tuple[int, int, int, int]
"""Shape of ``images``: (batch, 3, height, width)."""

Arrays = Sequence[NDArray[np.generic]]
"""The outputs of a file, in the order of ``OUTPUTS``."""
Execute = Callable[[NDArray[np.uint8], NDArray[np.int64]], Arrays]
"""Runs a file on images and their sizes."""
Build = Callable[[Shape], Execute]
"""Builds what runs images of one shape."""
