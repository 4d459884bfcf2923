"""The card of a trained detector: a page that says what it is, how good, how fast, and what it is not good for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.duration import format_seconds
from smnas_optuna.final_training.expectation import seed_interval
from smnas_optuna.final_training.record import Metrics, Outcome, TrainingRecord
from smnas_optuna.quote import printable_name

METRICS = {
    "ap": "AP",
    "ap50": "AP at IoU 0.50",
    "ap75": "AP at IoU 0.75",
    "ap_small": "AP of small objects",
    "ap_medium": "AP of medium objects",
    "ap_large": "AP of large objects",
    "ar1": "AR with 1 detection",
    "ar10": "AR with 10 detections",
    "ar100": "AR with 100 detections",
    "ar_small": "AR of small objects",
    "ar_medium": "AR of medium objects",
    "ar_large": "AR of large objects",
}
"""COCO's 12 metrics in pycocotools' order; sizes are areas in original pixels, with limits at 32**2 and 96**2."""
ROLES = {"train": "training", "val": "validation", "test": "test"}


def card(study_dir: Path, name: str, record: TrainingRecord) -> str:
    """Return the card of a finished training in Markdown.

    Args:
        study_dir: The study folder, as the user names it.
        name: Name of the training.
        record: The training, with its outcome.
    """
    assert record.outcome is not None
    sections = {
        "Data": _data(record),
        "Training": _training(record),
        "Accuracy": _accuracy(record, record.outcome),
        "Latency": _latency(record.outcome),
        "Limits of use": _limits(record, record.outcome),
        "Use it": _commands(study_dir, name, record),
        "Versions": [", ".join(f"{each} {version}" for each, version in sorted(record.outcome.versions.items()))],
    }
    parts = [f"# {name}", f"A detector of the study `{study_dir.resolve().name}`: `{record.plan.arch}`."]
    for title, lines in sections.items():
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def results_table(outcome: Outcome) -> list[str]:
    """Return COCO's 12 metrics as the rows of a Markdown table, x100; one column for each kind of images."""
    columns = {"validation": outcome.metrics, "test": outcome.test_metrics}
    shown = {role: metrics for role, metrics in columns.items() if metrics is not None}
    rows = [["x100", *shown], ["---", *["---:"] * len(shown)]]
    rows += [[title, *(_hundredfold(metrics.get(key)) for metrics in shown.values())] for key, title in METRICS.items()]
    return [f"| {' | '.join(row)} |" for row in rows]


def accuracy_lines(record: TrainingRecord) -> list[str]:
    """Return what is to be said of the APs of a finished training, one fact a line."""
    outcome, plan = record.outcome, record.plan
    assert outcome is not None
    lines = []
    role, metrics = ("test", outcome.test_metrics) if plan.with_val else ("validation", outcome.metrics)
    ap = None if metrics is None else metrics.get("ap")
    if ap is not None:
        low, high = seed_interval(ap, outcome.ap_spread)
        lines.append(
            f"AP (x100) {100 * ap:.1f} on the {role} images; 95 % of trainings with other seeds have {100 * low:.1f} "
            f"to {100 * high:.1f}, as APs of seeds have a standard deviation of {100 * outcome.ap_spread:.1f}"
        )
    lines += _image_intervals(outcome)
    if record.expected is not None:
        below = ap is not None and ap < record.expected.low
        lines.append(f"before it began: {record.expected.in_words(plan.epochs, role)}")
        if below:
            lines.append("its AP is below all that was expected")
    if plan.with_val:
        lines.append("the validation images were trained on, so that only the test images tell how good it is")
    else:
        last = None if outcome.last_metrics is None else outcome.last_metrics.get("ap")
        lines.append(
            f"the weights are those after epoch {outcome.epoch} of {plan.epochs}, the best on the validation images, "
            f"whose AP flatters a little for that; AP after the last epoch: {_hundredfold(last)}"
        )
    if outcome.place is not None:
        by = " (by the latency that the search has measured)" if outcome.latency.ms is None else ""
        lines.append(outcome.place.in_words() + by)
    return lines


def latency_lines(outcome: Outcome) -> list[str]:
    """Return the latency in words, one fact a line."""
    latency, lines = outcome.latency, []
    if latency.ms is not None and latency.low_ms is not None and latency.high_ms is not None:
        imprecise = latency.low_ms < latency.high_ms <= latency.ms
        lines.append(
            f"{'at most ' if imprecise else ''}{latency.ms:.3g} ms on the scale of the study (95 %: "
            f"{latency.low_ms:.3g} to {latency.high_ms:.3g} ms), one image at a time, from pixels to boxes"
        )
        if imprecise:
            lines.append("that is imprecise, so that the upper end counts; something else worked on this machine")
    else:
        lines.append("no place on the scale of the study, which was made on another device")
    return [
        *lines,
        f"{latency.ratio:.3g} times the reference detector: {latency.here_ms:.3g} ms beside "
        f"{latency.reference_here_ms:.3g} ms in this measurement ({latency.runtime})",
    ]


def _data(record: TrainingRecord) -> list[str]:
    data = record.about["data"]
    lines = [f"- {_images(data[role])} for {ROLES[role]}" for role in ROLES if data.get(role, {}).get("images")]
    if record.plan.with_val:
        lines.append("- trained on the images for training and for validation together")
    classes = [printable_name(str(each)) for each in data.get("classes", ())]
    return [*lines, f"- {len(classes)} class{'' if len(classes) == 1 else 'es'}: {', '.join(classes)}"]


def _training(record: TrainingRecord) -> list[str]:
    plan, outcome = record.plan, record.outcome
    assert outcome is not None
    recipe: Mapping[str, Any] = {**record.about["recipe"]["train"], "seed": plan.seed}
    chosen = f" (as many as fit into {plan.hours:g} h)" if plan.hours is not None else ""
    skipped = f", {outcome.skipped_steps} steps skipped" if outcome.skipped_steps else ""
    return [
        f"- from scratch, {plan.epochs} epochs{chosen} in {format_seconds(outcome.seconds)}{skipped}; "
        "`curve.json` and `curve.png` have loss and AP",
        *(f"- {name}: {_value(value)}" for name, value in recipe.items()),
    ]


def _accuracy(record: TrainingRecord, outcome: Outcome) -> list[str]:
    return [*(f"- {line}" for line in accuracy_lines(record)), "", *results_table(outcome)]


def _latency(outcome: Outcome) -> list[str]:
    device = ", ".join(f"{name} {value}" for name, value in outcome.device.items())
    return [*(f"- {line}" for line in latency_lines(outcome)), f"- device: {device}"]


def _limits(record: TrainingRecord, outcome: Outcome) -> list[str]:
    size, recipe = decode(record.plan.arch).input_size, record.about["recipe"]["detector"]
    lines = [
        f"images are shrunk or enlarged to fit into {size.long}x{size.short} px, so that objects of a few pixels there "
        "are lost",
        f"at most {recipe['max_detections']} detections in an image, with scores of at least "
        f"{recipe['score_threshold']:g}",
        "it knows the classes above and no others, and images like those that it was trained on",
    ]
    if outcome.test_metrics is None:
        lines.append("no test images: its AP is on images that chose it, and no figure for a publication")
    return [f"- {line}" for line in lines]


def _commands(study_dir: Path, name: str, record: TrainingRecord) -> list[str]:
    study, folder = shlex.quote(str(study_dir)), shlex.quote(str(study_dir / "trained" / name))
    named = f"--trained {shlex.quote(name)}"
    roles = ["test"] if record.plan.with_val else ["val"]  # which images tell the thresholds
    roles += ["test"] if record.about["data"].get("test", {}).get("images") else []
    return [
        "```",
        *(f"smnas evaluate {study} {named} --on {role}" for role in dict.fromkeys(roles)),
        f"smnas export {study} {named}",
        f"smnas predict image.jpg --detector {folder}",
        "```",
    ]


def _image_intervals(outcome: Outcome) -> list[str]:
    """Return the intervals of APs of few images."""
    lines = []
    for role, metrics in (("validation", outcome.metrics), ("test", outcome.test_metrics)):
        low, high = (_end(metrics, name) for name in ("ap_low", "ap_high"))
        if low is not None and high is not None:
            lines.append(
                f"there are few {role} images: on others like them it would be between {100 * low:.1f} and "
                f"{100 * high:.1f} (95 %)"
            )
    return lines


def _end(metrics: Metrics | None, name: str) -> float | None:
    return None if metrics is None else metrics.get(name)


def _images(counts: Mapping[str, Any]) -> str:
    return f"{counts['images']:,} images with {counts['boxes']:,} boxes"


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " to ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _hundredfold(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
