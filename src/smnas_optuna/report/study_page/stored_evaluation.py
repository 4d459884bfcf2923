"""What ``smnas evaluate`` has stored of the detectors of a study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smnas_optuna.arch import canonical
from smnas_optuna.evaluation.kept import EVALUATIONS, NUMBERS_FILE
from smnas_optuna.quote import printable_name
from smnas_optuna.real_files import is_real_folder, read_text

LONGEST = 2**26
"""Bytes of the largest file of results that is read."""
MOST = 200
"""Evaluations that are read."""
_Share = Annotated[float, Field(ge=0, le=1)] | None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class Curve(_Part):
    """Precision and recall by score threshold; null where nothing is detected."""

    threshold: list[float]
    precision: list[_Share]
    recall: list[_Share]


class OfClass(_Part):
    """Numbers of one class; see :class:`smnas_optuna.evaluation.metrics.ClassMetrics`."""

    name: str
    objects: Annotated[int, Field(ge=0)]
    ap: _Share
    ap50: _Share
    threshold: float
    precision: _Share
    recall: _Share


class OfSize(_Part):
    """Numbers of one range of sizes; see :class:`smnas_optuna.evaluation.metrics.SizeMetrics`."""

    low_px: float
    high_px: float | None
    objects: Annotated[int, Field(ge=0)]
    ap: _Share
    ar: _Share


class OfAll(_Part):
    """Numbers of all classes together."""

    curve: Curve


class Subject(_Part):
    """The detector, and where its weights lie."""

    path: str
    arch: str


class Images(_Part):
    """The images."""

    role: str
    images: Annotated[int, Field(ge=0)]
    content: str


class StoredEvaluation(_Part):
    """One evaluation, as ``evaluation.json`` has it."""

    detector: Subject
    images: Images
    classes: list[OfClass]
    sizes: list[OfSize]
    all: OfAll

    @property
    def role(self) -> str:
        """Name of the images; any text."""
        return printable_name(self.images.role)

    @property
    def weights(self) -> str:
        """Folder of the weights in its own folder, such as ``runs/ARCH``, or the name of an exported file."""
        return printable_name("/".join(PurePath(self.detector.path).parts[-2:]))


def stored_evaluations(study_dir: Path) -> list[tuple[Path, StoredEvaluation]]:
    """Return the evaluations in the study folder with their folders, by name; damaged ones are left out."""
    folder = study_dir / EVALUATIONS
    if not is_real_folder(folder):
        return []
    found = []
    for each in sorted(folder.iterdir())[:MOST]:
        if not is_real_folder(each):
            continue
        try:
            evaluation = StoredEvaluation.model_validate(json.loads(read_text(each / NUMBERS_FILE, LONGEST)))
        except (OSError, ValueError, RecursionError, ValidationError):  # an evaluation can be made again
            continue
        found.append((each, evaluation))
    return found


def of_arch(evaluations: Sequence[tuple[Path, StoredEvaluation]], arch: str) -> list[tuple[Path, StoredEvaluation]]:
    """Return those of the architecture ``arch``, validation images first."""
    own = [each for each in evaluations if canonical(each[1].detector.arch) == arch]
    return sorted(own, key=lambda each: each[1].images.role != "val")
