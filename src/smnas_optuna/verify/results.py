"""Results of a verification: finished trainings of detectors with several seeds, in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from smnas_optuna.arch import canonical
from smnas_optuna.engine.durable import write_json
from smnas_optuna.errors import StudyError, shortened
from smnas_optuna.real_files import read_text
from smnas_optuna.study.fingerprint import differences, refuse_differences
from smnas_optuna.study.forms import (
    Form,
    is_arch,
    is_count,
    is_device,
    is_mapping,
    is_measured,
    is_name,
    is_text,
    mapping_to,
    mapping_with,
    or_none,
)

LONGEST = 2**28
"""Bytes of the largest file of results; a training takes about 1,500."""
Metrics = Mapping[str, float | None]
"""COCO's metrics by name, in [0, 1]; null where there is nothing to measure."""
Key = tuple[str, int, int]
"""Identity of a training: architecture, number of the seed, epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """One finished training.

    Attributes:
        arch: Canonical string of the architecture.
        number: Number of the seed among those of the architecture, from 1.
        seed: Seed of weights, order and augmentation.
        epochs: Epochs of the training.
        metrics: Metrics on the validation images; None if it diverged.
        test_metrics: Metrics on the test images; None if it diverged, or if the data has none.
        failed: Reason that it has no metrics; None if it has some.
        seconds: Time of the training, without its earlier attempts.
        versions: Versions of the libraries.
    """

    arch: str
    number: int
    seed: int
    epochs: int
    metrics: Metrics | None
    test_metrics: Metrics | None
    failed: str | None
    seconds: float
    versions: Mapping[str, str]

    @property
    def key(self) -> Key:
        """Identity of the training."""
        return self.arch, self.number, self.epochs

    @property
    def ap(self) -> float | None:
        """AP on the validation images, in [0, 1]; None if it diverged."""
        return None if self.metrics is None else self.metrics["ap"]


@dataclass(kw_only=True, slots=True)
class Results:
    """The finished trainings of a study, from all requests, in one file that several workers add to.

    Attributes:
        file: File of the results, replaced as a whole after each training.
        about: Everything that the results depend on, as JSON values.
        runs: Finished trainings, as far as this process knows, by their key.
    """

    file: Path
    about: Mapping[str, Any]
    runs: dict[Key, SeedRun] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path, about: Mapping[str, Any]) -> Results:
        """Return the results in ``file``, or none if it does not exist.

        Raises:
            StudyError: If the file holds something else, or results that depend on something else.
        """
        results = read_results(file)
        if results is None:
            return cls(file=file, about=about)
        refuse_differences(
            differences(results.about, about),
            f"{file}: was made with other",
            fix=f"go back to what it was, or move {file.parent} away to begin again",
        )
        return results

    def refresh(self) -> None:
        """Read the trainings that other workers have finished."""
        self.runs = Results.load(self.file, self.about).runs

    def add(self, run: SeedRun) -> None:
        """Store ``run`` at once, beside the trainings that other workers have added meanwhile."""
        with FileLock(self.file.with_suffix(".lock")):
            self.refresh()
            self.runs[run.key] = run
            runs = [dataclasses.asdict(each) for each in self.runs.values()]
            write_json(self.file, {"about": self.about, "runs": runs})


def read_results(file: Path) -> Results | None:
    """Return the results in ``file``, whatever they depend on; None if it does not exist.

    Raises:
        StudyError: If the file holds something else.
    """
    try:
        stored = json.loads(read_text(file, LONGEST))
        about, runs = _about(stored["about"]), [_run(each) for each in stored["runs"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise StudyError(
            f"{file}: holds no results of smnas verify ({type(error).__name__}: {shortened(str(error), 200)})",
            fix="move it away; what it held is then trained again",
        ) from None
    return Results(file=file, about=about, runs={run.key: run for run in runs})


def _about(stored: Any) -> dict[str, Any]:
    """Return what the results depend on.

    Raises:
        ValueError: If it has not the form that a verification stores.
    """
    if not _is_about(stored):
        raise ValueError("about is not as it is stored")
    return dict(stored)


def _run(stored: Any) -> SeedRun:
    """Return a stored training; earlier versions stored other spellings of some architectures.

    Raises:
        ValueError: If it has not the form that a verification stores.
    """
    wrong = [name for name, form in RUN_FORMS.items() if not form(stored[name])]
    if wrong or len(stored) != len(RUN_FORMS) or (stored["metrics"] is None) == (stored["failed"] is None):
        raise ValueError(f"{wrong[0] if wrong else 'metrics'} of a training is not as it is stored")
    return SeedRun(**{**stored, "arch": canonical(stored["arch"])})


def _are_metrics(value: object) -> bool:
    """Return whether ``value`` has a mean AP and other metrics, each in [0, 1] or null."""
    share = or_none(lambda each: is_measured(each) and each <= 1)
    return mapping_to(share)(value) and "ap" in value  # type: ignore[operator]


def _is_about(value: object) -> bool:
    """Return whether ``value`` says of which images, recipe and device results are."""
    test, val = mapping_with(content=or_none(is_text), images=is_count), mapping_with(images=is_count)
    parts = {"data": mapping_with(test=test, val=val), "recipe": is_mapping, "device": is_device}
    return (
        mapping_with(**parts)(value)
        and value.keys() == parts.keys()  # type: ignore[attr-defined]
        and {"content", "images"} <= value["data"].get("test", {}).keys()  # type: ignore[index]
    )


RUN_FORMS: Mapping[str, Form] = {
    "arch": is_arch,
    "number": lambda value: is_count(value) and value > 0,
    "seed": is_count,
    "epochs": lambda value: is_count(value) and value > 0,
    "metrics": or_none(_are_metrics),
    "test_metrics": or_none(_are_metrics),
    "failed": or_none(is_text),
    "seconds": is_measured,
    "versions": mapping_to(is_name),
}
"""Form of each value of a training. A file of results can be edited, as a database can."""
