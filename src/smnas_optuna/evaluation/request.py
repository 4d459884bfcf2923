"""The request of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.config import DeviceChoice
from smnas_optuna.errors import StudyError
from smnas_optuna.evaluation.kept import EVALUATIONS
from smnas_optuna.paths import at_home

VAL, TEST = "val", "test"
_OTHER_FORMATS = (".yaml", ".yml", ".txt", ".names", ".xml")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """A user's request for an evaluation.

    Attributes:
        study_dir: Folder of a study.
        detector: Folder of weights and ``detector.json``, or an exported file.
        on: ``val``, ``test``, a COCO annotation file, or a data folder in any format.
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
                f"--on {self.on}: this is neither {VAL} nor {TEST}, and there is no such file or folder",
                fix=f"give {VAL}, {TEST}, a COCO annotation file or a data folder",
            )
        if self.images is not None and self.file is not None and self.file.is_dir():
            raise StudyError(
                f"--images: {self.on} is a folder, whose format says where its images are",
                fix="leave --images out, or name an annotation file: --on FILE.json",
            )
        if self.file is not None and self.file.suffix.lower() in _OTHER_FORMATS:
            raise StudyError(
                f"--on {self.on}: this is no annotation file of COCO's format",
                fix="name the data folder that it lies in: --on DIR",
            )

    @property
    def file(self) -> Path | None:
        """The annotation file or the data folder; None for the study's own images."""
        return None if self.on in (VAL, TEST) else at_home(self.on)

    @property
    def role(self) -> str:
        """Name of the images: ``val``, ``test``, or that of their annotation file or folder."""
        if self.file is None:
            return self.on
        if self.file.is_dir():
            name = self.file.resolve().name
            return f"{name}-folder" if name in (VAL, TEST) else name
        return self.file.name if self.file.stem in (VAL, TEST) else self.file.stem

    def output_in(self, study_dir: Path) -> Path:
        """Return the folder of the results inside ``study_dir``; ``last`` is one folder of each training."""
        place = self.detector.resolve()
        name = f"{place.parent.name}.{place.name}" if place.name == "last" else place.name
        return study_dir / EVALUATIONS / f"{name}.{self.role}"
