"""Sections of a panel: what the training, the timing, verification and evaluation of a detector said."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from smnas_optuna.duration import format_seconds
from smnas_optuna.page import Html, disclosure, element, isolated, joined, table
from smnas_optuna.report.study_page.known import Known
from smnas_optuna.report.study_page.latency_parts import latency_parts
from smnas_optuna.report.study_page.learning import LearningCurve
from smnas_optuna.report.study_page.line_chart import Line, line_chart
from smnas_optuna.report.study_page.modules import modules_drawing
from smnas_optuna.report.study_page.points import PagePoint
from smnas_optuna.report.study_page.stored_evaluation import StoredEvaluation
from smnas_optuna.report.tables import PHASES, latency_text, short
from smnas_optuna.study.record import TrialRecord

MOST_CLASSES = 100
"""Rows of a table of classes; of more classes, those with the lowest AP are shown."""


def panel_sections(point: PagePoint, known: Known) -> list[Html]:
    """Return the sections of a panel, without those that nothing is known for."""
    size = point.arch.partition(".")[0]
    parts = [
        ("Modules", modules_drawing(known.modules, size) if known.modules else _soft(known.no_modules)),
        ("Latency", joined([_latency(point.record), latency_parts(point.record)])),
        ("Learning curve", _curve(known.curve, point)),
        ("Verification and final training", joined([_verified(known), *_trained(known)])),
        ("Evaluation", joined([_evaluation(each) for _, each in known.evaluations])),
        ("Validation images", _pictures(known)),
        ("Commands", commands(point, known)),
    ]
    return [joined([element("h4", title), content]) for title, content in parts if content]


def _latency(record: TrialRecord) -> Html:
    stored: Mapping[str, Any] = record.attrs.get("latency", {})
    gate: Mapping[str, Any] = record.attrs.get("gate", {}) or {}
    network, median = _number(stored.get("network_ms")), _number(stored.get("median_ms"))
    low, high = _number(stored.get("p10_ms")), _number(stored.get("p90_ms"))
    rows = [["on the scale of the study, which the front shows", f"{latency_text(record)} ms"]]
    latency = record.latency
    if latency is not None and latency.low_ms < latency.high_ms:
        rows.append(["its 95 % interval", f"{short(latency.low_ms)} to {short(latency.high_ms)} ms"])
    if median is not None:
        spread = "" if low is None or high is None else f" ({short(low)} to {short(high)})"
        rows.append(["as it was timed: median, and 10th to 90th percentile", f"{short(median)} ms{spread}"])
    if network is not None and median is not None:
        rows.append(["of that, the network", f"{short(network)} ms"])
        rows.append(["of that, proposals and post-processing", f"{short(max(0.0, median - network))} ms"])
    reference = _number(stored.get("reference_median_ms"))
    if reference is not None:
        rows.append(["the reference detector at the same time", f"{short(reference)} ms"])
    if record.gate is not None and gate:
        rows.append(["before its training, with random weights", f"{short(record.gate.ms)} ms"])
    if stored.get("runtime"):
        rows.append(["what ran it", str(stored["runtime"])])
    return table("Latency of one image", ("", "value"), rows)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _curve(curve: LearningCurve | None, point: PagePoint) -> Html:
    rungs = {epoch: 100 * ap for epoch, ap in point.record.ap_by_epoch.items()}
    if point.record.epochs_done:
        rungs[point.record.epochs_done] = point.ap
    aps = sorted(rungs.items())
    charts = []
    if curve is not None:
        losses = sorted(curve.losses.items())
        charts.append(line_chart("Loss in the search", [Line(name="", points=losses)], "epoch", "mean loss"))
    if len(aps) > 1:
        charts.append(line_chart("AP at the rungs and at the end", [Line(name="", points=aps)], "epoch", "AP x100"))
    by_phase = ", ".join(
        f"{phase} {format_seconds(spent)}" for phase, spent in phases_of(point.record).items() if spent >= 1
    )
    said = element("p", f"Time of the trial: {by_phase}.", class_="note") if by_phase else Html()
    return joined([element("div", *charts, class_="cards"), said]) if charts else said


def phases_of(record: TrialRecord) -> dict[str, float]:
    """Return the seconds of a trial by phase, in words for people."""
    spent = dict[str, float]()
    seconds: Mapping[str, Any] = record.attrs.get("seconds", {})
    for phase, each in seconds.items():
        if (number := _number(each)) is not None:
            name = PHASES.get(phase, "other work")
            spent[name] = spent.get(name, 0.0) + number
    return spent


def _verified(known: Known) -> Html:
    rows = []
    for epochs in sorted({run.epochs for run in known.runs}):
        runs = [run for run in known.runs if run.epochs == epochs]
        aps = [100 * run.ap for run in runs if run.ap is not None]
        tests = [
            100 * run.test_metrics["ap"] for run in runs if run.test_metrics and run.test_metrics["ap"] is not None
        ]
        rows.append([f"{epochs} epochs", str(len(runs)), _mean(aps), _mean(tests), str(len(runs) - len(aps))])
    if not rows:
        return Html()
    head = ("smnas verify", "seeds", "AP, mean ± deviation", "on test images", "diverged")
    return table("Trained again with other seeds; AP x100", head, rows)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _trained(known: Known) -> list[Html]:
    rows = []
    for name, training in known.trainings:
        outcome = training.outcome
        if outcome is None:
            continue
        latency = outcome.latency.ms
        rows.append(
            [
                isolated(name),
                f"{outcome.epoch} of {training.plan.epochs}",
                *(_percent((metrics or {}).get("ap")) for metrics in (outcome.metrics, outcome.test_metrics)),
                "-" if latency is None else short(latency),
                format_seconds(outcome.seconds),
            ]
        )
    head = ("smnas train", "best epoch", "AP", "on test images", "ms", "took")
    return [table("Trained for longer; AP x100", head, rows)] if rows else []


def _evaluation(evaluation: StoredEvaluation) -> Html:
    classes = sorted(evaluation.classes, key=lambda each: -1.0 if each.ap is None else each.ap)[:MOST_CLASSES]
    head = ("class", "objects", "AP", "AP50", "threshold", "precision", "recall")
    rows = [
        [
            isolated(each.name),
            f"{each.objects:,}",
            _percent(each.ap),
            _percent(each.ap50),
            f"{each.threshold:.2f}",
            _percent(each.precision),
            _percent(each.recall),
        ]
        for each in classes
    ]
    curve = evaluation.all.curve
    pairs = [
        (100 * recall, 100 * precision)
        for recall, precision in zip(curve.recall, curve.precision, strict=False)
        if recall is not None and precision is not None
    ]
    chart = line_chart(
        "Precision and recall of all classes, over the score threshold",
        [Line(name="", points=sorted(pairs))],
        "recall (%)",
        "precision (%)",
    )
    sizes = [
        [_size(each.low_px, each.high_px), f"{each.objects:,}", _percent(each.ap), _percent(each.ar)]
        for each in evaluation.sizes
    ]
    of_sizes = table("By size in the detector's input, x100", ("size", "objects", "AP", "AR"), sizes)
    hidden = len(evaluation.classes) - len(classes)
    more = element("p", f"{hidden} classes with a higher AP are not shown.", class_="note") if hidden else Html()
    return disclosure(
        f"{evaluation.role}: {evaluation.images.images:,} images, with {evaluation.weights}",
        table("Classes, the weakest first, x100", head, rows),
        more,
        element("div", chart, of_sizes, class_="cards"),
    )


def _size(low: float, high: float | None) -> str:
    return f"{low:g} px and more" if high is None else f"{low:g}-{high:g} px"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _pictures(known: Known) -> Html:
    if known.pictures is None:
        return _soft(known.no_pictures)
    said = (
        "The same images for all detectors. White dashes are the truth, blue boxes are right, and dotted orange ones "
        "are false: at an IoU of 0.5 with the right class. Drawn are the highest scores, as many as there are objects."
    )
    return joined([element("p", said, class_="note"), known.pictures])


def _soft(said: str) -> Html:
    return element("p", said, class_="soft") if said else Html()


def commands(point: PagePoint, known: Known) -> Html:
    """Return the commands that train, export and use the detector, to copy."""
    study = shlex.quote(str(known.study_dir))
    steps = [("train it for longer", f"smnas train {study} {point.arch}")]
    if known.weights is not None:
        weights = shlex.quote(str(known.weights))
        steps += [
            ("evaluate it: numbers per class, and the thresholds", f"smnas evaluate {study} {point.arch}"),
            (
                "export it as one ONNX file, with a proof that it computes the same",
                f"smnas export {study} {point.arch}",
            ),
            ("use its weights on images", f"smnas predict 'images/*.jpg' --detector {weights} --output found"),
        ]
    rows = [
        element(
            "div",
            element("div", said, class_="note"),
            element("div", element("code", command), _copy(), class_="command"),
        )
        for said, command in steps
    ]
    return joined(rows)


def _copy() -> Html:
    return element("button", "copy", type="button", class_="copy", hidden="")
