"""What a benchmark measured of a detector from outside: lines for people, and the file that the report reads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from smnas_optuna.benchmark.run import Benchmark
from smnas_optuna.evaluation.given_results import GivenResults
from smnas_optuna.report.files import write_text
from smnas_optuna.report.outside import FILE, FORMAT, read_entries
from smnas_optuna.report.tables import strict
from smnas_optuna.report.uncertainty import in_brackets, interval_of
from smnas_optuna.study.folder import StudyFolder

ROLES = {"val": "validation", "test": "test"}


def keep_outsider(study_dir: Path, benchmark: Benchmark, results: GivenResults | None) -> Path | None:
    """Store the detector from outside of ``benchmark`` for the report, and return the path of the file.

    What is known of the same file in other images stays. A latency that does not compare with those that the study
    stores is not stored; then None is returned.

    Raises:
        StudyError: If the file cannot be written, or is damaged.
    """
    outsider = benchmark.outsider
    if outsider is None or outsider.differs is not None:
        return None
    folder, latency = StudyFolder(study_dir), benchmark.rows[-1].latency
    entries = read_entries(folder)
    known = entries.get(outsider.timed.name, {})
    if known.get("sha256") != outsider.sha256:
        known = {}
    entries[outsider.timed.name] = {
        "sha256": outsider.sha256,
        "input": outsider.input,
        "ratio": latency.ratio,
        "ratio_low": latency.ratio_low,
        "ratio_high": latency.ratio_high,
        **{role: known.get(role) for role in ROLES},
        **({} if results is None else {results.role: asdict(results)}),
    }
    text = json.dumps(strict({"format": FORMAT, "detectors": entries}), indent=2, allow_nan=False) + "\n"
    return write_text(folder.report, FILE, text, "detector from outside")


def not_shown_line(study_dir: Path, benchmark: Benchmark) -> str | None:
    """Return a line that says what the front lacks to show the detector from outside; None if it is stored.

    Raises:
        StudyError: If the file of these detectors is damaged.
    """
    outsider = benchmark.outsider
    entry = None if outsider is None else read_entries(StudyFolder(study_dir)).get(outsider.timed.name)
    if outsider is None or entry is None or entry["val"] is not None:
        return None
    return (
        f"the front shows {outsider.timed.name} once its AP on the validation images is known, too: "
        f"--results FILE --on val"
    )


def outsider_lines(benchmark: Benchmark, results: GivenResults | None) -> list[str]:
    """Return lines on the accuracy of the detector from outside, and on why the report does not show it."""
    outsider, lines = benchmark.outsider, list[str]()
    if outsider is None:
        return lines
    if results is not None:
        metrics, interval = results.metrics, interval_of(strict(asdict(results.metrics)))
        limit = "" if results.metric_limit == 100 else f"; {results.metric_limit} detections of an image count"
        lines.append(
            f"{outsider.timed.name}: AP (x100) {100 * metrics.ap:.1f}{in_brackets(interval)}, "
            f"AP50 {100 * metrics.ap50:.1f} on {results.images:,} {ROLES[results.role]} images{limit}"
        )
    if outsider.differs is not None:
        lines.append(
            f"{outsider.timed.name} is not kept for the report, as its latency does not compare with those of the "
            f"study: {outsider.differs}"
        )
    return lines
