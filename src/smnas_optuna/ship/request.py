"""The request of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShipRequest:
    """A user's request for an exported file.

    Attributes:
        study_dir: Folder of a study that has trained something.
        output: File to write; by default ``<arch>.onnx`` (with the precision, if it is not fp32) in the working folder.
        precision: Precision of weights and activations.
        allow_loss: Write the file even if a lower precision loses AP or is no faster.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
    """

    study_dir: Path
    output: Path | None = None
    precision: Precision = "fp32"
    allow_loss: bool = False
    data_dir: Path | None = None

    def output_of(self, arch: str) -> Path:
        """Return the file that ``arch`` is written to."""
        ending = "" if self.precision == "fp32" else f".{self.precision}"
        return self.output or Path(f"{arch}{ending}.onnx")
