"""The front as a table for people, and as CSV and JSON for programs; of two stages their joint front."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from smnas_optuna.duration import format_seconds, plural
from smnas_optuna.report.summary import FOREIGN, Summary, stage_of
from smnas_optuna.report.uncertainty import WIDEST_BRACKETS, in_brackets, interval_of, uncertainty_line
from smnas_optuna.study.pareto import hypervolume_curve
from smnas_optuna.study.record import StageName, TrialRecord

UNKNOWN = "-"
NARROWEST, STAGE, ENDLESS = 73, 6, 10_000
"""Columns of text: the least for the front, those of its stage column, and more than any table has."""
STAGE_NUMBERS: dict[StageName, str] = {"structural": "1", "modular": "2"}
IMPRECISE = (
    "a latency with its 95 % confidence interval was not measured precisely, and counts as the upper end; "
    "smnas retime measures the front again"
)
PHASES = {
    "train": "training",
    "rungs": "evaluation",
    "evaluate": "evaluation",
    "gate": "timing",
    "latency": "timing",
    "waiting": "waiting for a node",
}
"""Phases of a trial, in words for people."""
APART = (
    "the front is that of stage 2: stage 1 has another recipe, and AP does not compare; smnas front --stage structural "
    "shows its front, and smnas verify trains members and baselines with one recipe"
)
CSV_METRICS = ("ap50", "ap75", "ap_small", "ap_medium", "ap_large")
CSV_COLUMNS = (
    *("arch", "latency_ms", "latency_low_ms", "latency_high_ms", "precise", "ap", *CSV_METRICS),
    *("num_params", "multiply_adds", "study", "trial_number", "baseline", "weights"),
)


def print_front(summary: Summary, console: Console) -> None:
    """Print the front, the folders of its weights, its hypervolume and the trial counts; see :func:`print_tables`."""
    tables = (front_table(summary), weights_table(summary)) if summary.front else ()
    uncertain = uncertainty_lines(summary)
    lines = [*uncertain, *([hypervolume_line(summary)] if summary.front else [])]
    lines += [timing_line(summary)] if summary.compares_stages else []
    lines += [APART] if summary.apart else []
    lines += time_lines(summary)
    narrowest = NARROWEST + (STAGE if len(summary.fronts) > 1 else 0) + (WIDEST_BRACKETS if uncertain else 0)
    lines += [IMPRECISE] if any(map(is_imprecise, summary.front)) else []
    if doubt := summary.unit and summary.unit.doubt:
        lines.append(f"the unit of milliseconds is doubtful: {doubt}; see smnas doctor")
    print_tables(tables, [*lines, counts_line(summary)], console, narrowest=narrowest)


def new_table(title: str, what: str) -> Table:
    """A table with a ``title``; its first column is headed ``what``, and is folded where it does not fit."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=Text(title, style="table.title"), title_justify="left")
    table.add_column(what, overflow="fold", min_width=12)
    return table


def print_tables(tables: Sequence[Table], lines: Sequence[str], console: Console, *, narrowest: int) -> None:
    """Print ``tables`` and then ``lines``; the first column of a table is never cut off.

    On a narrow terminal that column is folded, and the table takes at least ``narrowest`` columns of text. Elsewhere a
    row is one line, however long: a pipe has no width, and rich would assume 80 columns.
    """
    for table in tables:
        whole = Measurement.get(console, console.options.update(max_width=ENDLESS), table).maximum
        table.width = min(whole, max(console.width, narrowest) if console.is_terminal else ENDLESS)
        console.print(table, crop=False)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def front_table(summary: Summary) -> Table:
    """The front as a table for people, fastest first. Only here and in the picture AP is times 100."""
    what = "stages 1 (structural) and 2 (modular)" if len(summary.fronts) > 1 else " and ".join(summary.fronts)
    title = f"Pareto front of {what}: latency on {summary.device_name} (batch 1) and AP (x100)"
    table = new_table(title, "architecture")
    for header in ("latency\n(ms)", "AP\n(x100)", "AP50\n(x100)", "params\n(M)", "GMACs", "trial"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)
    if len(summary.fronts) > 1:
        table.add_column("stage", no_wrap=True)
    for record in summary.front:
        metrics = _mapping(record, "metrics")
        table.add_row(
            record.arch or UNKNOWN,
            latency_text(record),
            _percent(record.ap) + in_brackets(interval_of(metrics)),
            _percent(metrics.get("ap50")),
            short(record.num_params, 1e6),
            short(record.multiply_adds, 1e9),
            str(record.number),
            "baseline" if record.baseline else "found",
            *_stages(summary, record),
        )
    return table


def latency_text(record: TrialRecord) -> str:
    """The latency in ms, for people; of an imprecise one the estimate and its interval: ``10.7 (8.1-13.9)``."""
    latency = record.latency
    if latency is None or latency.precise:
        return short(record.latency_ms)
    return f"{short(latency.ms)} ({short(latency.low_ms)}-{short(latency.high_ms)})"


def is_imprecise(record: TrialRecord) -> bool:
    """True if the latency of a trained record was not measured precisely."""
    return record.latency is not None and not record.latency.precise


def weights_table(summary: Summary) -> Table:
    """The folders of the front's weights, relative to the study folder; one row per trial."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    if len(summary.fronts) > 1:
        table.add_column("stage", no_wrap=True)
    table.add_column("weights, in the study folder", overflow="fold")
    for record in summary.front:
        table.add_row(str(record.number), *_stages(summary, record), record.weights or "not kept")
    return table


def uncertainty_lines(summary: Summary) -> list[str]:
    """Line for people on the intervals of AP; none if no member of the front has one."""
    if all(interval_of(_mapping(record, "metrics")) is None for record in summary.front):
        return []
    return [uncertainty_line(summary.data.get("val", {}).get("images"))]


def hypervolume_line(summary: Summary) -> str:
    """Hypervolume and number of members of each front and of the joint front, in one line for people."""
    slowest, worst = summary.reference
    fronts: list[tuple[str, float, int]] = [
        (stage, summary.hypervolumes[stage], len(front)) for stage, front in summary.fronts.items()
    ]
    if len(summary.fronts) > 1:
        fronts.append(("both", summary.hypervolumes["all"], len(summary.front)))
    values = ", ".join(f"{name} {value:.4g} ({size} {plural(size, 'member')})" for name, value, size in fronts)
    return f"hypervolume to ({short(slowest)} ms, AP {worst:g}): {values}; AP in [0, 1]"


def timing_line(summary: Summary) -> str:
    """One line for people on the latencies of two stages: they are comparable if one run has measured all."""
    if summary.timed_together:
        return "latencies of both fronts were timed together in one run"
    return "latencies of the two fronts are from different runs; smnas retime measures them in one"


def time_lines(summary: Summary) -> list[str]:
    """Line for people on where the time of all trials went; none if no trial has stored it."""
    spent = Counter[str]()
    for record in summary.records:
        if record.foreign is not None or record.cached_from is not None:  # what it repeats has taken the time
            continue
        for phase, seconds in _mapping(record, "seconds").items():
            spent[PHASES.get(phase, "other work")] += seconds
    whole = sum(spent.values())
    if not whole:
        return []
    shares = ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in spent.most_common())
    return [f"{format_seconds(whole)} of all trials: {shares}"]


def counts_line(summary: Summary) -> str:
    """The trial counts, in one line for people, without those that are 0."""
    counts = dict(summary.counts)
    trained = f"{counts.pop('complete')} trained ({len(summary.front)} on the front)"
    names = {"cached": "answered from an earlier trial", FOREIGN: "not as smnas stores them"}
    others = (f"{count} {names.get(name, name)}" for name, count in counts.items() if count)
    return f"{summary.study}: {', '.join([trained, *others])}"


def _stages(summary: Summary, record: TrialRecord) -> tuple[str, ...]:
    """Cell for the stage of a row; none if there is only one stage."""
    return (STAGE_NUMBERS[stage_of(record)],) if len(summary.fronts) > 1 else ()


def front_csv(summary: Summary) -> str:
    """The front as CSV with a header, fastest first.

    AP is in [0, 1], ``latency_ms`` in ms, ``study`` that of the trial, ``structural`` or ``modular/`` and the parent,
    ``baseline`` and ``precise`` ``true`` or ``false``, ``weights`` a folder inside the study folder. ``latency_ms`` is
    the upper end of the interval if it is not precise. Values that are unknown or cannot be measured are empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in summary.front:
        entry = _entry(record)
        metrics = entry["metrics"]
        row = {name: entry[name] for name in CSV_COLUMNS if name in entry}
        row |= {name: metrics.get(name) for name in CSV_METRICS}
        flags = {name: "true" if entry[name] else "false" for name in ("baseline", "precise")}
        writer.writerow(row | flags)
    return text.getvalue()


def front_json(summary: Summary) -> str:
    """The fronts, hypervolumes, trial counts, device and versions as strict JSON: NaN and infinity become null.

    AP is in [0, 1], hypervolumes in ms; fronts are sorted by latency, fastest first. ``hypervolume_curve`` has a value
    for each trained architecture, those of stage 1 first. ``latency_ms`` is the upper end of the interval if it is not
    ``precise``. ``latency`` is as it was measured, with times in ms that the state of the machine changes.
    """
    slowest, worst = summary.reference
    values = {
        "study": summary.study,
        "front": [_entry(record) for record in summary.front],
        "fronts": {stage: [record.arch for record in front] for stage, front in summary.fronts.items()},
        "hypervolume": {"reference": {"latency_ms": slowest, "ap": worst}, **summary.hypervolumes},
        "hypervolume_curve": hypervolume_curve(summary.in_order, summary.reference),
        "apart": summary.apart,
        "timed_together": summary.timed_together,
        "unit": None if summary.unit is None else {**asdict(summary.unit), "doubt": summary.unit.doubt},
        "trials": dict(summary.counts),
        "device": summary.device,
        "versions": summary.versions,
    }
    return json.dumps(strict(values), indent=2, allow_nan=False) + "\n"


def _entry(record: TrialRecord) -> dict[str, Any]:
    """A record as JSON values without NaN."""
    entry = {
        "arch": record.arch,
        "latency_ms": record.latency_ms,
        "latency_low_ms": None if record.latency is None else record.latency.low_ms,
        "latency_high_ms": None if record.latency is None else record.latency.high_ms,
        "precise": not is_imprecise(record),
        "ap": record.ap,
        "num_params": record.num_params,
        "multiply_adds": record.multiply_adds,
        "study": record.study,
        "trial_number": record.number,
        "baseline": record.baseline,
        "weights": record.weights,
        "metrics": _mapping(record, "metrics"),
        "latency": _mapping(record, "latency"),
    }
    return {name: strict(value) for name, value in entry.items()}


def _mapping(record: TrialRecord, name: str) -> Mapping[str, Any]:
    values: Mapping[str, Any] = record.attrs.get(name, {})
    return values


def strict(value: Any) -> Any:
    """``value`` for strict JSON: NaN and infinity become None, at every depth."""
    if isinstance(value, Mapping):
        return {name: strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(ap: float | None) -> str:
    return UNKNOWN if ap is None or math.isnan(ap) else f"{100 * ap:.1f}"


def short(value: float | None, unit: float = 1.0) -> str:
    """Three digits of ``value`` in ``unit``, for people: 0.0123, 1.23, 12.3, 1234."""
    if value is None:
        return UNKNOWN
    scaled = value / unit
    if scaled < 1:
        return f"{scaled:.3g}"
    return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}"
