"""Names in exported files, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
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
Inputs = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images, and their sizes."""
Execute = Callable[[NDArray[np.uint8], NDArray[np.int64]], Arrays]
"""Runs a file on images and their sizes."""
Build = Callable[[Shape], Execute]
"""Builds what runs images of one shape."""
Operators = Sequence[tuple[str, float]]
"""Name and time of each operator in a run, us, in the order in which they ran."""
WARM_UP_RUNS = 2
"""Runs at the beginning of a profile that do not count."""
Profile = Callable[[Shape, Iterable[Inputs]], Generator[None, None, Operators]]
"""Runs a file on images of one shape, more than ``WARM_UP_RUNS`` times, in a session of its own that takes the time of
each operator. It pauses after each run."""
