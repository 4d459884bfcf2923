"""Results of further trainings as a table for people, and as CSV and JSON for programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from smnas_optuna.report.summary import name_device
from smnas_optuna.report.tables import UNKNOWN, latency_text, new_table, print_tables, strict
from smnas_optuna.report.uncertainty import WIDEST_BRACKETS, in_brackets, uncertainty_line
from smnas_optuna.verify.statistics import Spread, chance_of_same_order
from smnas_optuna.verify.verdict import Neighbours, Verdict, Verified
from smnas_optuna.verify.verification import Verification

NARROWEST = 83
"""Columns of text that the numbers and a folded architecture need."""
CSV_COLUMNS = (
    *("arch", "latency_ms", "on_front", "baseline", "search_epochs", "search_ap"),
    *("epochs", "seeds", "failed", "ap_mean", "ap_deviation", "test_ap_mean", "test_ap_deviation"),
    *("ap_low", "ap_high", "test_ap_low", "test_ap_high", "weights"),
)


def print_verification(verification: Verification, console: Console) -> None:
    """Print the table, and the lines on what it says of the search."""
    lines = [*_uncertainty_lines(verification), *verdict_lines(verification), *_weights_lines(verification)]
    brackets = sum(any(each) for each in zip(*map(_intervals, verification.verdict.verified), strict=True))
    narrowest = NARROWEST + brackets * WIDEST_BRACKETS
    print_tables([verification_table(verification)], lines, console, narrowest=narrowest)


def verification_table(verification: Verification) -> Table:
    """One row per architecture, fastest first. Only here and in the picture AP is times 100."""
    title = (
        f"AP (x100) of {verification.epochs} epochs, mean and standard deviation over seeds; latency on "
        f"{name_device(verification.about['device'])} (batch 1)"
    )
    table = new_table(title, "architecture")
    headers = ["latency\n(ms)", f"search, {verification.search_epochs}\nepochs", "validation"]
    for header in (*headers, *(["test"] if verification.has_test else []), "seeds"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("role", no_wrap=True)
    for each in verification.verdict.verified:
        test_cell = _percent(each.test_mean, each.test_deviation) + in_brackets(each.test_interval)
        test = [test_cell] if verification.has_test else []
        table.add_row(
            each.candidate.arch,
            latency_text(each.candidate.record),
            _percent(each.candidate.search_ap),
            _percent(each.mean, each.deviation) + in_brackets(each.interval),
            *test,
            f"{len(each.aps)}{f' ({each.failed} diverged)' if each.failed else ''}",
            _role(each),
        )
    return table


def verdict_lines(verification: Verification) -> list[str]:
    """Lines for people on what the trainings say of the search."""
    verdict, lines = verification.verdict, []
    wanted = verification.seeds * len(verdict.verified)
    if len(verification.runs) < wanted:
        lines.append(f"{len(verification.runs)} of {wanted} trainings are finished: run the same command to resume")
    return [*lines, *_order_lines(verdict), _tau_line(verification), *_spread_lines(verification)]


def _intervals(verified: Verified) -> tuple[tuple[float, float] | None, ...]:
    return verified.interval, verified.test_interval


def _uncertainty_lines(verification: Verification) -> list[str]:
    lines = []
    for place, (split, role) in enumerate((("val", "validation"), ("test", "test"))):
        if any(_intervals(each)[place] for each in verification.verdict.verified):
            images = verification.about["data"].get(split, {}).get("images")
            lines.append(uncertainty_line(images, role=role))
    return lines


def _weights_lines(verification: Verification) -> list[str]:
    """Where the weights of the best trainings are, in the study folder."""
    kept = [each.weights for each in verification.verdict.verified if each.weights is not None]
    return [
        f"weights of its best training: {each.folder} (AP (x100) {100 * each.ap:.1f}, seed {each.number}, "
        f"{each.epochs} epochs)"
        for each in kept
    ]


def verification_csv(verification: Verification) -> str:
    """One row per architecture, fastest first, with a header.

    AP is in [0, 1]; ``search_ap`` and ``ap_*`` are on the validation images. ``ap_low`` and ``ap_high`` are a 95 %
    interval for other images, if these are few. ``seeds`` is the number of finished trainings. ``on_front`` and
    ``baseline`` are ``true`` or ``false``. ``weights`` is a folder inside the study folder. Unknown values are empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for each in verification.verdict.verified:
        entry = _entry(each)
        row = {name: entry[name] for name in CSV_COLUMNS if name in entry}
        row["weights"] = "" if each.weights is None else each.weights.folder
        row |= {name: "true" if entry[name] else "false" for name in ("on_front", "baseline")}
        writer.writerow(row | {"search_epochs": verification.search_epochs, "epochs": verification.epochs})
    return text.getvalue()


def verification_json(verification: Verification) -> str:
    """All of it, each training included, as strict JSON: data, recipe, device, versions, epochs and seeds.

    AP is in [0, 1]; ``neighbours`` are along the front, their ``chance`` is the two-sided p of Student's t with the
    pooled spread.
    """
    verdict = verification.verdict
    versions = {name: version for run in verification.runs for name, version in run.versions.items()}
    values = {
        "search_epochs": verification.search_epochs,
        "epochs": verification.epochs,
        "seeds": verification.seeds,
        "architectures": [_entry(each) for each in verdict.verified],
        "neighbours": [
            {**dataclasses.asdict(each), "holds": each.holds, "beyond_noise": each.beyond_noise}
            for each in verdict.neighbours
        ],
        "kendall_tau": {"tau": verdict.tau, "architectures": verdict.num_compared},
        "spread": _spread_entry(verdict.spread),
        "test_spread": _spread_entry(verdict.test_spread),
        "runs": [dataclasses.asdict(run) for run in verification.runs],
        **verification.about,
        "versions": versions,
    }
    return json.dumps(strict(values), indent=2, allow_nan=False) + "\n"


def _order_lines(verdict: Verdict) -> list[str]:
    pairs = verdict.neighbours
    if not pairs:
        return ["order along the front: fewer than two of its members are retrained, so there is no order to compare"]
    held, turned = [pair for pair in pairs if pair.holds], [pair for pair in pairs if not pair.holds]
    lines = [
        f"order along the front: {len(held)} of {len(pairs)} neighbouring pairs keep the search's order"
        f"{_by_noise(held)}, {len(turned)} do not{_by_noise(turned)}"
    ]
    for pair in turned:
        chance = "" if pair.chance is None else f" (p = {pair.chance:.2g})"
        lines.append(
            f"  not kept: {pair.slower} has {100 * -pair.difference:.1f} AP (x100) less than {pair.faster}, which is "
            f"faster{chance}"
        )
    return lines


def _by_noise(pairs: list[Neighbours]) -> str:
    if not pairs:
        return ""
    if pairs[0].beyond_noise is None:
        return " (the noise is not known)"
    beyond = sum(bool(pair.beyond_noise) for pair in pairs)
    return f" ({beyond} beyond the noise, {len(pairs) - beyond} within it)"


def _tau_line(verification: Verification) -> str:
    verdict, count = verification.verdict, verification.verdict.num_compared
    what = (
        f"Kendall's tau-b of the search's AP ({verification.search_epochs} epochs, one seed) and the mean AP of "
        f"{verification.epochs} epochs"
    )
    if verdict.tau is None:
        return f"{what}: needs two architectures with different AP"
    said = f"{what}: {verdict.tau:.2f} over {count} architectures"
    if verdict.tau_means_something:
        return f"{said} (1: the same order, 0: no better than chance)"
    chance = f"{100 * chance_of_same_order(count):.0f} % of cases"
    return f"{said}, too few to tell: chance alone puts {count} into the same or the reversed order in {chance}"


def _spread_lines(verification: Verification) -> list[str]:
    spread = verification.verdict.spread
    if spread is None:
        return ["spread over seeds: unknown before each architecture has two finished trainings"]
    epochs = f"measured at {verification.epochs} epochs"
    if verification.epochs != verification.search_epochs:
        epochs += f"; --epochs {verification.search_epochs} measures it at the search's"
    return [
        f"spread over seeds: standard deviation {100 * spread.deviation:.2f} AP (x100), pooled, with "
        f"{spread.freedom} degrees of freedom",
        f"for study.toml: [search] ap_spread = {max(spread.deviation, 1e-4):.2g} ({epochs})",
    ]


def _entry(verified: Verified) -> dict[str, Any]:
    """An architecture as JSON values."""
    candidate = verified.candidate
    return {
        "arch": candidate.arch,
        "latency_ms": candidate.latency_ms,
        "on_front": candidate.on_front,
        "baseline": candidate.baseline,
        "search_ap": candidate.search_ap,
        "seeds": len(verified.aps),
        "failed": verified.failed,
        "ap_mean": verified.mean,
        "ap_deviation": verified.deviation,
        "test_ap_mean": verified.test_mean,
        "test_ap_deviation": verified.test_deviation,
        **_ends("ap", verified.interval),
        **_ends("test_ap", verified.test_interval),
        "weights": None if verified.weights is None else dataclasses.asdict(verified.weights),
    }


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = (None, None) if interval is None else interval
    return {f"{name}_low": low, f"{name}_high": high}


def _spread_entry(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {"deviation": spread.deviation, "degrees_of_freedom": spread.freedom}


def _role(verified: Verified) -> str:
    candidate = verified.candidate
    roles = {"front": candidate.on_front, "baseline": candidate.baseline}
    return ", ".join(name for name, held in roles.items() if held)


def _percent(ap: float | None, deviation: float | None = None) -> str:
    if ap is None:
        return UNKNOWN
    return f"{100 * ap:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
