"""Detectors from outside that a study folder knows, from ``report/outside.json``; ``smnas benchmark`` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smnas_optuna.errors import StudyError, shortened
from smnas_optuna.real_files import read_text
from smnas_optuna.report.uncertainty import Interval, interval_of
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.forms import Form, is_measured, is_name, is_positive, or_none

FILE = "outside.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """A detector from outside.

    Attributes:
        name: Name of its file.
        ratio: Its latency as a ratio to the study's reference detector.
        ratio_low: Lower end of the 95 % interval.
        ratio_high: Upper end.
        metrics: COCO's metrics in [0, 1] by the role of the images, ``val`` or ``test``, as far as there are some.
    """

    name: str
    ratio: float
    ratio_low: float
    ratio_high: float
    metrics: Mapping[str, Mapping[str, Any]]

    def ap(self, role: Literal["val", "test"]) -> float | None:
        """Return AP in [0, 1] in the images of ``role``; None if it is not known."""
        return self.metrics.get(role, {}).get("ap")

    def interval(self, role: Literal["val", "test"]) -> Interval | None:
        """Return the 95 % interval of :meth:`ap`; None if it is not known."""
        return interval_of(self.metrics.get(role))


def read_outside(folder: StudyFolder) -> tuple[Outside, ...]:
    """Return the detectors from outside that ``folder`` knows, fastest first.

    Raises:
        StudyError: If their file is damaged.
    """
    found = [
        Outside(
            name=name,
            ratio=entry["ratio"],
            ratio_low=entry["ratio_low"],
            ratio_high=entry["ratio_high"],
            metrics={role: entry[role]["metrics"] for role in ("val", "test") if entry[role] is not None},
        )
        for name, entry in read_entries(folder).items()
    ]
    return tuple(sorted(found, key=lambda each: each.ratio))


def read_entries(folder: StudyFolder) -> dict[str, dict[str, Any]]:
    """Return what is stored of each detector from outside, by its name; empty if there is no file.

    Raises:
        StudyError: If the file is damaged.
    """
    file = folder.report / FILE
    try:
        stored = json.loads(read_text(file))
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        entries: dict[str, dict[str, Any]] = {name: dict(entry) for name, entry in stored["detectors"].items()}
        wrong = [part for entry in entries.values() for part, form in _FORMS.items() if not form(entry[part])] + [
            "a name" for name in entries if not is_name(name)
        ]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {shortened(str(error), 200)}"
    else:
        if not wrong:
            return entries
        problem = f"{wrong[0]} is not as it is stored"
    raise StudyError(
        f"{file}: holds no detectors from outside ({problem})",
        fix="move it away, and time them again: smnas benchmark --study STUDY_DIR --onnx FILE",
    )


def _are_metrics(value: object) -> bool:
    metrics = value.get("metrics") if isinstance(value, Mapping) else None
    share = or_none(lambda each: is_measured(each) and each <= 1)
    return isinstance(metrics, Mapping) and "ap" in metrics and all(map(share, metrics.values()))


_FORMS: Mapping[str, Form] = {
    "sha256": is_name,
    "ratio": is_positive,
    "ratio_low": is_positive,
    "ratio_high": is_positive,
    "val": or_none(_are_metrics),
    "test": or_none(_are_metrics),
}
