"""An exported detector as a file: its content and its description, checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.errors import FileError
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.real_files import check_regular_file
from smnas_optuna.runtime.description import FIX, METADATA_KEY, FileDescription
from smnas_optuna.runtime.onnx_file import read_metadata

MAX_BYTES = 2**31 - 1
"""Bytes of the largest file, a limit of protocol buffers; ResNeXt-101 with a cascade has 0.5e9."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DetectorFile:
    """An exported detector in memory.

    Attributes:
        name: Its path, for messages.
        content: Its bytes.
        description: What it says about itself.
    """

    name: str
    content: bytes
    description: FileDescription

    @classmethod
    def read(cls, path: Path) -> DetectorFile:
        """Read an exported detector.

        Raises:
            FileError: If there is no such file, or it cannot be read, is damaged, or is no exported detector.
        """
        name = quote_path(path)
        try:
            check_regular_file(path)
            if path.stat().st_size > MAX_BYTES:
                raise FileError(f"{name}: it is larger than {MAX_BYTES:,} bytes, the most of an ONNX file", fix=FIX)
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise FileError(
                f"{name}: there is no such file", fix="name a file that `smnas export` has written"
            ) from error
        except (OSError, MemoryError) as error:
            raise FileError(
                f"{name}: it cannot be read: {quote_error(error)}", fix="name a file that `smnas export` has written"
            ) from error
        return cls.of(content, name)

    @classmethod
    def of(cls, content: bytes, name: str) -> DetectorFile:
        """Return the exported detector with this content.

        Raises:
            FileError: If it is damaged, or no exported detector.
        """
        try:
            metadata = read_metadata(content)
        except ValueError as error:
            raise FileError(f"{name}: it is no exported detector: {quote_error(error)}", fix=FIX) from error
        if METADATA_KEY not in metadata:
            raise FileError(
                f"{name}: it is no exported detector: it has no description, or its end is missing", fix=FIX
            )
        return cls(name=name, content=content, description=FileDescription.read(metadata[METADATA_KEY], where=name))

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()
