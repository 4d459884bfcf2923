"""The section on the search: its progress, what was not trained and why, its time, and which choices mattered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from smnas_optuna.duration import format_seconds
from smnas_optuna.page import Bar, Html, bars, disclosure, element, isolated, section, table
from smnas_optuna.report.study_page.endings import why_not_trained
from smnas_optuna.report.study_page.importance import FEWEST, Importance, importances
from smnas_optuna.report.study_page.line_chart import Line, line_chart
from smnas_optuna.report.study_page.panel_sections import phases_of
from smnas_optuna.report.summary import Summary, stage_of
from smnas_optuna.report.tables import short
from smnas_optuna.study.pareto import hypervolume_curve

HOUR = 3600.0
MOST_VALUES = 60


def search_section(summary: Summary) -> Html:
    """Return the section; parts that nothing is known for are left out."""
    cards = element("div", _endings(summary), _time(summary), class_="cards wide-cards")
    return section("The search", *_progress(summary), cards, *_choices(summary), name="search")


def progress_of(summary: Summary) -> list[tuple[float, float]]:
    """Return (hours of all workers together, hypervolume) after each training, in the order in which they ended.

    The hours are those of all trials that ended by then, also of those that were not trained to the end.
    """
    curve = iter(hypervolume_curve(summary.in_order, summary.reference))
    records = [record for record in summary.compared if (record.ended or record.trained) and record.foreign is None]
    records.sort(key=lambda record: (stage_of(record) == "modular", record.ended or datetime.max))
    hours, points = 0.0, []
    for record in records:
        hours += 0.0 if record.cached_from is not None else sum(phases_of(record).values()) / HOUR
        if record.trained:
            points.append((hours, next(curve)))
    return points


def _progress(summary: Summary) -> list[Html]:
    points = progress_of(summary)
    if len(points) < 2:
        return []
    slowest, worst = summary.reference
    alone = summary.baseline_hypervolume

    def lines(places: Sequence[float]) -> list[Line]:
        ours = Line(
            name="all that is trained",
            points=list(zip(places, (value for _, value in points), strict=True)),
            steps=True,
        )
        theirs = [(places[0], alone), (places[-1], alone)]
        return [ours, *([Line(name="baselines alone", points=theirs, steps=True)] if alone else [])]

    counts = [float(number) for number in range(1, len(points) + 1)]
    charts = [line_chart("Hypervolume over trainings", lines(counts), "trained architectures", "hypervolume (ms)")]
    hours = [hour for hour, _ in points]
    if hours[-1] > hours[0]:
        unit, title = (1.0, "hours of all workers") if hours[-1] >= 1 else (60.0, "minutes of all workers")
        places = [unit * hour for hour in hours]
        charts.append(line_chart("Hypervolume over time", lines(places), title, "hypervolume (ms)"))
    said = (
        f"The hypervolume is the area that the front dominates, up to {short(slowest)} ms and down to AP {worst:g}. "
        "AP is in [0, 1] here. Each step is a better front."
    )
    return [element("p", said), element("div", *charts, class_="cards")]


def _endings(summary: Summary) -> Html:
    reasons = Counter(reason for record in summary.records if (reason := why_not_trained(record)) is not None)
    trained = sum(record.trained for record in summary.records)
    if not reasons:
        return Html()
    rows = [Bar(label="trained", value=trained, text=f"{trained:,}")]
    rows += [
        Bar(label=isolated(reason, longest=120), value=count, text=f"{count:,}")
        for reason, count in reasons.most_common(20)
    ]
    return element(
        "div", element("h3", "How trials ended"), bars("Trials", rows, heads=("ending", "trials")), class_="card"
    )


def _time(summary: Summary) -> Html:
    spent = Counter[str]()
    for record in summary.records:
        if record.foreign is None and record.cached_from is None:  # what it repeats has taken the time
            spent.update(phases_of(record))
    whole = sum(spent.values())
    if whole <= 0:
        return Html()
    rows = [
        Bar(label=name, value=seconds, text=f"{format_seconds(seconds)}, {100 * seconds / whole:.0f} %")
        for name, seconds in spent.most_common()
    ]
    heading = element("h3", "Where the time went")
    return element(
        "div", heading, bars(f"{format_seconds(whole)} of all trials", rows, heads=("work", "time")), class_="card"
    )


def _choices(summary: Summary) -> list[Html]:
    trained = [record for record in summary.compared if record.trained]
    found = importances(trained)
    if not found:
        return [element("p", f"Which choices matter is said from {FEWEST} trained architectures on.", class_="note")]
    said = (
        "The share of the spread of AP, and of latency, among trained architectures that each choice explains alone. "
        "In what a search trains, choices go together: the shares overlap, and with few trainings they are rough."
    )
    rows = [
        (each.name, f"{100 * each.of_ap:.0f} %", f"{100 * each.of_latency:.0f} %", each.values[0].name)
        for each in found
    ]
    shares = table("Explained alone (epsilon squared)", ("choice", "of AP", "of latency", "highest mean AP"), rows)
    heading = element("h3", "Which choices mattered")
    return [element("div", heading, element("p", said, class_="note"), shares, _values(found), class_="card choices")]


def _values(found: Sequence[Importance]) -> Html:
    rows = [
        (f"{each.name}: {value.name}", f"{value.count}", f"{100 * value.mean_ap:.1f}", short(value.mean_ms))
        for each in found
        for value in each.values
    ][:MOST_VALUES]
    head = ("value", "trained", "mean AP x100", "mean ms")
    return disclosure("All values", table("Means over what was trained", head, rows), opened=False)
