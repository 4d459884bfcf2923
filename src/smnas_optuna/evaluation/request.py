"""The request of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.config import DeviceChoice
from smnas_optuna.errors import StudyError
from smnas_optuna.evaluation.kept import EVALUATIONS

VAL, TEST = "val", "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """A user's request for an evaluation.

    Attributes:
        study_dir: Folder of a study.
        detector: Folder of weights and ``detector.json``, or an exported file.
        on: ``val``, ``test``, or a COCO annotation file.
        images: Folder that ``file_name`` is relative to in an annotation file; by default the folder of that file.
        output: Folder of the results; by default :meth:`output_in` of the study folder.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
        device: The device to detect on. An exported file runs on the CPU.
    """

    study_dir: Path
    detector: Path
    on: str = VAL
    images: Path | None = None
    output: Path | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"

    def __post_init__(self) -> None:
        if self.images is not None and self.file is None:
            raise StudyError(
                f"--images: {self.on} is named by study.toml, and so is the folder of its images",
                fix="leave --images out, or name an annotation file: --on FILE.json",
            )
        if self.file is not None and not self.file.exists():
            raise StudyError(
                f"--on {self.on}: this is neither {VAL} nor {TEST}, and there is no such file",
                fix=f"give {VAL}, {TEST} or a COCO annotation file",
            )

    @property
    def file(self) -> Path | None:
        """The annotation file; None for the study's own images."""
        return None if self.on in (VAL, TEST) else Path(self.on)

    @property
    def role(self) -> str:
        """Name of the images: ``val``, ``test``, or that of their annotation file."""
        if self.file is None:
            return self.on
        return self.file.name if self.file.stem in (VAL, TEST) else self.file.stem

    def output_in(self, study_dir: Path) -> Path:
        """Return the folder of the results inside ``study_dir``."""
        return study_dir / EVALUATIONS / f"{self.detector.resolve().name}.{self.role}"
