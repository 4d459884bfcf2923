"""An ONNX file of anybody, run for its time alone: one image in, whatever comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import FileError
from smnas_optuna.quote import quote, quote_error, quote_path
from smnas_optuna.real_files import check_regular_file
from smnas_optuna.runtime.description import MAX_EDGE
from smnas_optuna.runtime.detector_file import MAX_BYTES
from smnas_optuna.runtime.onnx_file import read_metadata
from smnas_optuna.runtime.onnxruntime_session import errors_of, load_onnxruntime, session_options

TYPES: dict[str, type[np.generic]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
"""Types of an image. Numbers with a fraction are in [0, 1], as most detectors want them."""
MIN_EDGE = 32
"""Pixels of the smallest edge of an input."""
NOT_GIVEN = "name an ONNX file of a detector"
EXPORT = "export it for one image of one size"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnyFile:
    """An ONNX file in ONNX Runtime, on the CPU.

    Attributes:
        name: Its path, for messages.
        sha256: SHA-256 of its content, hexadecimal.
        shape: Shape of its input: [1, 3, H, W], [1, H, W, 3], or one of them without the 1.
        type: Type of its input, one of ``TYPES``.
        session: What runs it.
    """

    name: str
    sha256: str
    shape: tuple[int, ...]
    type: str
    session: Any = field(repr=False)

    @classmethod
    def read(cls, path: Path, num_threads: int) -> AnyFile:
        """Read a file, and build what runs it with ``num_threads`` CPU threads.

        Raises:
            FileError: If it cannot be read or loaded, or has another input than one image of a fixed size.
            DeviceError: If ONNX Runtime cannot be imported.
        """
        name = quote_path(path)
        content = _content(path, name)
        onnxruntime = load_onnxruntime()
        try:
            session = onnxruntime.InferenceSession(
                content, session_options(onnxruntime, num_threads), providers=["CPUExecutionProvider"]
            )
        except errors_of(onnxruntime) as error:
            raise FileError(
                f"{name}: ONNX Runtime {onnxruntime.__version__} cannot load it: {quote_error(error)}",
                fix="export it again, for operators that ONNX Runtime has",
            ) from error
        shape, kind = _input(session.get_inputs(), name)
        return cls(name=name, sha256=hashlib.sha256(content).hexdigest(), shape=shape, type=kind, session=session)

    @property
    def channels_last(self) -> bool:
        """True if the colours are the last dimension of its input."""
        return _channels_last(self.shape)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its input, pixels."""
        return _height_and_width(self.shape)

    def run(self, pixels: NDArray[np.uint8]) -> Sequence[object]:
        """Return its outputs for an image, uint8 [3, H, W]; it is converted to the type of the input before.

        Raises:
            FileError: If ONNX Runtime cannot run it.
        """
        image = pixels.transpose(1, 2, 0) if self.channels_last else pixels
        kind = TYPES[self.type]
        values = np.ascontiguousarray(image) if kind is np.uint8 else np.multiply(image, kind(1 / 255), dtype=kind)
        onnxruntime = load_onnxruntime()
        try:
            found: Sequence[object] = self.session.run(
                None, {self.session.get_inputs()[0].name: values.reshape(self.shape)}
            )
        except errors_of(onnxruntime) as error:
            raise FileError(
                f"{self.name}: ONNX Runtime {onnxruntime.__version__} cannot run it: {quote_error(error)}",
                fix="check that it detects in an image by itself, and export it again",
            ) from error
        return found


def _channels_last(shape: Sequence[int]) -> bool:
    return shape[-1] == 3 and shape[-3] != 3


def _height_and_width(shape: Sequence[int]) -> tuple[int, int]:
    height, width = shape[-3:-1] if _channels_last(shape) else shape[-2:]
    return height, width


def _content(path: Path, name: str) -> bytes:
    try:
        check_regular_file(path)
        if path.stat().st_size > MAX_BYTES:
            raise FileError(f"{name}: it is larger than {MAX_BYTES:,} bytes, the most of an ONNX file", fix=NOT_GIVEN)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileError(f"{name}: there is no such file", fix=NOT_GIVEN) from error
    except (OSError, MemoryError) as error:
        raise FileError(f"{name}: it cannot be read: {quote_error(error)}", fix=NOT_GIVEN) from error
    try:
        read_metadata(content)
    except ValueError as error:
        raise FileError(
            f"{name}: it cannot be timed: {quote_error(error)}", fix=f"{NOT_GIVEN}, with its weights inside the file"
        ) from error
    return content


def _input(inputs: Sequence[Any], name: str) -> tuple[tuple[int, ...], str]:
    """Return shape and type of the one input."""
    if len(inputs) != 1:
        raise FileError(
            f"{name}: it has {len(inputs)} inputs, and exactly one, an image, can be given",
            first=f"the input {quote(inputs[0].name)}, {inputs[0].type}" if inputs else None,
            fix=f"{EXPORT}, with sizes and thresholds inside the file",
        )
    (only,) = inputs
    shape, where = list(only.shape), f"{name}: its input {quote(only.name)}"
    if not all(isinstance(edge, int) and edge > 0 for edge in shape):
        raise FileError(
            f"{where} is {quote(shape)}, of no fixed shape",
            fix=f"{EXPORT}, without dynamic axes: [1, 3, 320, 320], for instance",
        )
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1) or 3 not in (shape[-1], shape[-3]):
        raise FileError(
            f"{where} is {quote(shape)}, which is not one image in colour",
            fix=f"{EXPORT}: [1, 3, H, W] or [1, H, W, 3]",
        )
    height, width = _height_and_width(shape)
    if not MIN_EDGE <= min(height, width) <= max(height, width) <= MAX_EDGE:
        raise FileError(
            f"{where} is {quote(shape)}: {MIN_EDGE} to {MAX_EDGE} pixels can be given on each edge", fix=EXPORT
        )
    if only.type not in TYPES:
        raise FileError(f"{where} is a {only.type}", fix=f"{EXPORT}, as one of {', '.join(TYPES)}")
    return tuple(shape), str(only.type)
