"""An evaluation as tables for people, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from smnas_optuna.engine.device import library_versions
from smnas_optuna.evaluation.curves import Counts, Curve
from smnas_optuna.evaluation.matching import Places
from smnas_optuna.evaluation.metrics import FEWEST_IMAGES, SizeMetrics
from smnas_optuna.evaluation.request import TEST, VAL
from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.report.tables import UNKNOWN, new_table, print_tables, strict
from smnas_optuna.report.uncertainty import in_brackets
from smnas_optuna.runtime.detections import USUAL_THRESHOLD

NARROWEST = 76
"""Columns of text that the numbers and a folded name of a class need."""
MOST_CLASSES = 30
"""Rows of the table of classes; of more classes, those with the lowest AP are shown."""
BACKGROUND = "background"
GRID = tuple(round(0.05 * step, 2) for step in range(20))
"""Score thresholds of the curves in the JSON file."""
_METRICS = (
    *(("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75"), ("ap_small", "AP\nsmall"), ("ap_medium", "AP\nmedium")),
    *(("ap_large", "AP\nlarge"), ("ar1", "AR\n1"), ("ar10", "AR\n10"), ("ar100", "AR\n{limit}")),
    *(("ar_small", "AR\nsmall"), ("ar_medium", "AR\nmedium"), ("ar_large", "AR\nlarge")),
)


def print_evaluation(evaluated: Evaluated, console: Console) -> None:
    """Print the tables, and the lines that say how they are meant."""
    tables = [metrics_table(evaluated), class_table(evaluated), size_table(evaluated)]
    print_tables(tables, explanations(evaluated), console, narrowest=NARROWEST)


def metrics_table(evaluated: Evaluated) -> Table:
    """COCO's 12 metrics in one row, x100."""
    dataset = evaluated.images.dataset
    objects = sum(each.objects for each in evaluated.classes)
    title = f"COCO's metrics (x100) on {evaluated.role}: {len(dataset.images):,} images, {objects:,} objects"
    table = Table(box=new_table("", "").box, padding=(0, 1, 0, 0), title=title, title_justify="left")
    cells = []
    for name, header in _METRICS:
        table.add_column(header.format(limit=evaluated.limits.metric), justify="right", no_wrap=True)
        cells.append(_percent(getattr(evaluated.metrics, name)))
    cells[0] += in_brackets(_known(evaluated.metrics.ap_low, evaluated.metrics.ap_high))
    table.add_row(*cells)
    return table


def class_table(evaluated: Evaluated) -> Table:
    """One row per class, in the detector's order, and one for all: AP, and counts at the thresholds."""
    table = new_table(
        f"Classes, x100: AP, and at an IoU of 0.5 what is right at the score thresholds {_whose(evaluated)}", "class"
    )
    for header in ("images", "objects", "AP", "AP50", "threshold", "precision", "recall", "F1"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("often taken for", overflow="fold")
    counts, confusion = evaluated.counts, evaluated.confusion
    for place in _shown(evaluated):
        each = evaluated.classes[place]
        table.add_row(
            each.name,
            f"{each.images:,}",
            f"{each.objects:,}",
            _percent(each.ap) + in_brackets(_known(each.ap_low, each.ap_high)),
            _percent(each.ap50),
            f"{evaluated.thresholds[place]:.2f}",
            *_shares(counts[place]),
            _taken_for(confusion, place, evaluated.subject.classes),
        )
    metrics, total = evaluated.metrics, evaluated.total
    table.add_section()
    table.add_row(
        "all",
        f"{len(evaluated.images.dataset.images):,}",
        f"{total.right + total.missed:,}",
        _percent(metrics.ap) + in_brackets(_known(metrics.ap_low, metrics.ap_high)),
        _percent(metrics.ap50),
        UNKNOWN,
        *_shares(total),
        "",
    )
    return table


def size_table(evaluated: Evaluated) -> Table:
    """One row per range of sizes of objects, in pixels of the input."""
    size = evaluated.subject.size
    table = new_table(f"Objects by size in the input, {size.long}x{size.short}", "size")
    for header in ("objects", "AP", "AR"):
        table.add_column(header, justify="right", no_wrap=True)
    for each in evaluated.sizes:
        table.add_row(size_text(each), f"{each.objects:,}", _percent(each.ap), _percent(each.ar))
    return table


def size_text(size: SizeMetrics) -> str:
    """The range of sizes, for people: ``16-32 px``."""
    return f"{size.low_px:g} px and more" if math.isinf(size.high_px) else f"{size.low_px:g}-{size.high_px:g} px"


def explanations(evaluated: Evaluated) -> list[str]:
    """Lines for people on what the tables leave out."""
    lines, few = list[str](), any(each.images < FEWEST_IMAGES for each in evaluated.classes)
    if not all(map(math.isnan, [evaluated.metrics.ap_low, *(each.ap_low for each in evaluated.classes)])):
        lines.append(
            "in brackets: 95 % interval for other images like these (bootstrap over the images)"
            + (f"; none for a class in fewer than {FEWEST_IMAGES} of them" if few else "")
        )
    hidden = len(evaluated.classes) - len(_shown(evaluated))
    if hidden:
        lines.append(f"{hidden} classes with a higher AP are in evaluation.json only")
    if evaluated.subject.saw_val and evaluated.role == VAL:
        lines.append("the detector was trained on the validation images, too: its numbers on them are too good")
    return [*lines, *_about_limits(evaluated), _about_thresholds(evaluated)]


def _about_limits(evaluated: Evaluated) -> list[str]:
    limits = evaluated.limits
    if not limits.raised:
        return []
    line = (
        f"an image holds up to {limits.most_objects} objects: the metrics count {limits.metric} detections of an image "
        f"and class instead of 100, and do not compare with those of the search; the detector gives up to "
        f"{limits.detector}"
    )
    if limits.detector < limits.metric:
        line += ", as it was exported: set max_detections under [detector] before a search to raise that"
    return [line]


def _about_thresholds(evaluated: Evaluated) -> str:
    total = evaluated.total
    shares = f"precision {_percent(total.precision)}, recall {_percent(total.recall)}, F1 {_percent(total.f1)} (x100)"
    subject, classes = evaluated.subject, f"{len(evaluated.classes)} classes"
    if evaluated.threshold_source == "none":
        return (
            f"the detector has no thresholds: {USUAL_THRESHOLD:g} is taken for all classes ({shares}); find them: --on "
            f"{TEST if subject.saw_val else VAL}"
        )
    if evaluated.threshold_source == "stored":
        where = TEST if subject.saw_val else "validation"
        return f"thresholds of {classes} as found on the {where} images; on these images they give {shares}"
    if evaluated.stored:
        return (
            f"thresholds of {classes} that maximise F1 on these images ({shares}) are stored in "
            f"{subject.path / 'detector.json'}; smnas export writes them into its file"
        )
    why = "a file stays as it was exported: evaluate its run, and export it again" if subject.is_file else "see above"
    return f"thresholds of {classes} that maximise F1 on these images ({shares}) are not stored: {why}"


def evaluation_json(evaluated: Evaluated) -> str:
    """All numbers as strict JSON: NaN becomes null.

    Metrics are in [0, 1]; ``confusion`` has a row for each class of objects and a column for each class of detections,
    the background last. ``curve`` has precision, recall and F1 at an IoU of 0.5 at the score thresholds of its list.
    """
    subject, images, counts = evaluated.subject, evaluated.images, evaluated.counts
    everything = evaluated.all_classes
    best = everything.best_threshold()
    classes = [
        {
            **dataclasses.asdict(each),
            "category_id": images.category_ids[place],
            "threshold": evaluated.thresholds[place],
            **_counts_entry(counts[place]),
            "curve": _curve_entry(evaluated.curves[place]),
        }
        for place, each in enumerate(evaluated.classes)
    ]
    one = None if best is None else {"threshold": best, **_counts_entry(everything.at(best))}
    values = {
        "detector": {
            "path": str(subject.path),
            "arch": subject.arch,
            "input_size": f"{subject.size.long}x{subject.size.short}",
            "sha256": subject.sha256,
        },
        "images": {
            "role": evaluated.role,
            "annotations": str(images.dataset.source),
            "images": len(images.dataset.images),
            "objects": sum(each.objects for each in evaluated.classes),
            "content": images.content_hash,
        },
        "limits": {**dataclasses.asdict(evaluated.limits), "raised": evaluated.limits.raised},
        "metrics": dataclasses.asdict(evaluated.metrics),
        "classes": classes,
        "all": {**_counts_entry(evaluated.total), "curve": _curve_entry(everything), "one_threshold": one},
        "thresholds": {"source": evaluated.threshold_source, "stored": evaluated.stored},
        "sizes": [dataclasses.asdict(each) for each in evaluated.sizes],
        "confusion": {
            "classes": [*subject.classes, BACKGROUND],
            "objects_as_detections": evaluated.confusion.tolist(),
        },
        "mistakes": _mistakes(evaluated),
        "versions": library_versions(),
    }
    return json.dumps(strict(values), indent=2, allow_nan=False) + "\n"


def _mistakes(evaluated: Evaluated) -> list[dict[str, object]]:
    names = {image.image_id: image.path.name for image in evaluated.images.dataset.images}
    rows: list[dict[str, object]] = []
    for each in sorted(evaluated.matches, key=lambda match: -int(match.missed.sum() + match.false.sum())):
        missed, false = int(each.missed.sum()), int(each.false.sum())
        if missed or false:
            row = {"image_id": each.image_id, "file_name": names[each.image_id], "missed": missed, "false": false}
            rows.append(row)
    return rows


def _counts_entry(counts: Counts) -> dict[str, float]:
    shares = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return {**dataclasses.asdict(counts), **shares}


def _curve_entry(curve: Curve) -> dict[str, list[float]]:
    points = [curve.at(threshold) for threshold in GRID]
    return {
        "threshold": list(GRID),
        "precision": [each.precision for each in points],
        "recall": [each.recall for each in points],
        "f1": [each.f1 for each in points],
    }


def _shown(evaluated: Evaluated) -> Sequence[int]:
    """Places of the classes that have a row in the table."""
    places = range(len(evaluated.classes))
    if len(places) <= MOST_CLASSES:
        return places
    by_ap = sorted(places, key=lambda place: (math.isnan(evaluated.classes[place].ap), evaluated.classes[place].ap))
    return sorted(by_ap[:MOST_CLASSES])


def _whose(evaluated: Evaluated) -> str:
    return {
        "found here": "that maximise F1 here",
        "stored": "that are stored with the detector",
        "none": "of a half",
    }[evaluated.threshold_source]


def _taken_for(confusion: Places, place: int, classes: Sequence[str]) -> str:
    """The class that objects of class ``place`` are most often taken for, with their number."""
    row = confusion[place, :-1].copy()
    row[place] = 0
    return f"{classes[int(row.argmax())]} ({row.max()})" if row.any() else ""


def _shares(counts: Counts) -> tuple[str, str, str]:
    return _percent(counts.precision), _percent(counts.recall), _percent(counts.f1)


def _known(low: float, high: float) -> tuple[float, float] | None:
    return None if math.isnan(low) else (low, high)


def _percent(share: float) -> str:
    return UNKNOWN if math.isnan(share) else f"{100 * share:.1f}"
