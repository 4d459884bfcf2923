"""The results for people: a text with a table, and a picture of the curves."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping
from typing import Any

from common import markdown_table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from efficiency.curves import Curves
from efficiency.samplers import STOCK_POPULATION
from efficiency.table import PERCENTS, Table

LINES = {
    "ours": ("#D55E00", "-"),
    "NSGA-II of Optuna in our loop": ("#CC79A7", "--"),
    "ours without the surrogate": ("#8C510A", "--"),
    "ours without partial-order pruning": ("#56B4E9", "--"),
    "stock NSGA-II": ("#0072B2", "-"),
    "stock TPE": ("#009E73", "-"),
    "stock GP": ("#7F7F7F", "-"),
    "random": ("#000000", ":"),
    "informed": ("#E69F00", ":"),
}
"""Okabe and Ito's colours, which the colour-blind can tell apart, and grey; a method that lacks an ingredient is
dashed."""


def describe_table(table: Table) -> dict[str, Any]:
    """Numbers of the table; the spread of AP over seeds is a standard deviation."""
    return {
        "architectures": len(table.rows),
        "space": table.space.size,
        "front": len(table.front),
        "repeated": len(table.repeated),
        "ap_spread": None if table.ap_spread is None else round(table.ap_spread, 5),
        "margin": round(table.margin, 5),
        "reference": [round(value, 4) for value in table.reference],
        "content": content_hash(table),
    }


def content_hash(table: Table) -> str:
    """Hash of all that a replay depends on: the rows, in the order of their names, and the margin."""
    rows = [(arch, row.gate_ratio, row.latency_ratio, row.ap) for arch, row in sorted(table.rows.items())]
    return hashlib.sha256(repr((rows, table.margin)).encode()).hexdigest()[:16]


def as_text(table: Table, found: Mapping[str, Any]) -> str:
    """The content of the JSON file, ``found``, as text."""
    about, checks = found["table"], found["checks"]
    heads = [f"{percent} % ({table.num_trainings(percent)})" for percent in PERCENTS]
    rows = [
        (name, *(f"{100 * share['mean']:.1f} ± {100 * share['standard_error']:.1f}" for share in shares.values()))
        for name, shares in found["shares"].items()
    ]
    return "\n".join(
        [
            f"{about['architectures']} of {about['space']} architectures, {about['front']} on the front; "
            f"{found['seeds']} seeds; population: ours {found['population']['ours']}, stock {STOCK_POPULATION}",
            "",
            markdown_table(("share of the maximal hypervolume (x100) after", *heads), rows),
            "",
            *_checks_as_text(checks),
            *(_pruning_as_text(found["pruning"]) if "pruning" in found else ()),
            _margin_as_text(table),
        ]
    )


def _checks_as_text(checks: Mapping[str, Any]) -> list[str]:
    leads = checks.get("least_leads", {})
    lines = [f"least lead of ours over {name}, in standard errors: {lead:+.1f}" for name, lead in leads.items()]
    if "lead_at_10_over_nsgaii_at_40" in checks:
        lines.append(f"ours at 10 % over stock NSGA-II at 40 %: {100 * checks['lead_at_10_over_nsgaii_at_40']:+.1f}")
    return lines


def _pruning_as_text(pruning: Mapping[str, float]) -> list[str]:
    return [
        f"pruned of what was proposed until 20 %: {100 * pruning['pruned_of_proposed']:.0f} %",
        f"members of the front that a run pruned: {pruning['front_lost']:.2f} on average, "
        f"{100 * pruning['share_lost']:.2f} % of the hypervolume",
        f"with all others trained, {pruning['prunable']} would be pruned, {pruning['prunable_front']} of the front",
    ]


def _margin_as_text(table: Table) -> str:
    if table.ap_spread is None:
        return f"nothing was repeated: the margin is the package's default, {table.margin:g}"
    deviations = [100 * statistics.stdev(aps) for aps in table.repeated.values()]
    return (
        f"standard deviation of AP (x100) over seeds, {len(deviations)} architectures: "
        f"{100 * table.ap_spread:.2f} ({min(deviations):.2f}..{max(deviations):.2f}); this is the margin"
    )


def draw(table: Table, curves: Mapping[str, Curves]) -> Figure:
    """Picture of the share of the maximal hypervolume over trainings, with a band of one standard error."""
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for name in sorted(curves, key=lambda name: -curves[name].mean[-1]):
        colour, style = LINES[name]
        numbers = range(1, table.budget + 1)
        mean = [100 * value for value in curves[name].mean]
        errors = [100 * value for value in curves[name].error]
        low, high = ([m + sign * e for m, e in zip(mean, errors, strict=True)] for sign in (-1, 1))
        width = 2.4 if name == "ours" else 1.4
        axes.plot(numbers, mean, color=colour, ls=style, lw=width, label=name, zorder=4 if name == "ours" else 3)
        axes.fill_between(numbers, low, high, color=colour, alpha=0.15, lw=0)
    _frame(axes, table, curves)
    return figure


def _frame(axes: Axes, table: Table, curves: Mapping[str, Curves]) -> None:
    first = table.num_trainings(PERCENTS[0])
    lowest = min(each.mean[first - 1] for each in curves.values())
    axes.set_xlim(1, table.budget)
    axes.set_ylim(100 * lowest - 8, 100.5)
    axes.set_xlabel(f"architectures trained, of {len(table.rows)}; repeats count where they are trained again")
    axes.set_ylabel("share of the maximal hypervolume (%)")
    above = axes.secondary_xaxis("top")
    above.set_xticks([table.num_trainings(percent) for percent in PERCENTS], [f"{percent} %" for percent in PERCENTS])
    for percent in PERCENTS:
        axes.axvline(table.num_trainings(percent), color="0.85", lw=0.8, zorder=1)
    axes.legend(loc="lower right", fontsize=9, frameon=True, edgecolor="none")
