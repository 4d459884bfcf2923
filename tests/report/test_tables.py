from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console

from smnas_optuna.report.summary import summarize
from smnas_optuna.report.tables import counts_line, front_csv, front_json, print_front

from .report_studies import DEVICE, FAST, MIDDLE, STRONG, full_study, new_study


def printed(width: int, *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_front(summarize(full_study()), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_row_is_a_line_where_there_is_no_terminal(width: int) -> None:
    lines = [line.split() for line in printed(width, terminal=False).splitlines()]

    assert [FAST, "3.50", "6.2", "-", "0.4", "0.002", "2", "found"] in lines
    assert [MIDDLE, "12.2", "20.0", "41.2", "1.23", "0.0567", "0", "baseline"] in lines
    assert [STRONG, "140", "50.0", "-", "41.0", "-", "3", "found"] in lines
    assert ["0", f"runs/{MIDDLE}"] in lines
    assert ["2", "not", "kept"] in lines


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_folds_an_architecture_and_cuts_nothing_off(width: int) -> None:
    text = printed(width, terminal=True)
    first = text.index("140")  # STRONG's row, from its latency on
    rows = text[text.rindex("\n", 0, first) : text.index("weights")].splitlines()

    assert "".join(row[1:].split(" ")[0] for row in rows).startswith(STRONG)
    assert "…" not in text
    assert all(len(line) <= max(width, 73) for line in text.splitlines()[:-1])


def test_the_table_says_what_the_numbers_are() -> None:
    text = printed(80, terminal=False)

    assert "latency on Intel Xeon CPU @ 2.20GHz, 2 threads (batch 1) and AP (x100)" in text
    assert text.splitlines()[-1] == (
        "structural: 4 trained (3 on the front), 1 answered from an earlier trial, 1 pruned, 1 failed, 1 running"
    )


def test_an_empty_front_prints_the_counts_alone() -> None:
    console, summary = Console(file=io.StringIO()), summarize(new_study())
    print_front(summary, console)

    assert console.file.getvalue() == counts_line(summary) + "\n"  # type: ignore[attr-defined]


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(front_csv(summarize(full_study())))))

    assert [row["arch"] for row in rows] == [FAST, MIDDLE, STRONG]
    assert rows[1] == {
        "arch": MIDDLE,
        "latency_ms": "12.25",
        "ap": "0.2",
        "ap50": "0.4125",
        "ap75": "0.1",
        "ap_small": "",
        "ap_medium": "",
        "ap_large": "",
        "num_params": "1234567",
        "multiply_adds": "56700000",
        "trial_number": "0",
        "baseline": "true",
        "weights": f"runs/{MIDDLE}",
    }
    assert (rows[2]["baseline"], rows[2]["weights"], rows[2]["multiply_adds"]) == ("false", "", "")


def test_json_is_strict_and_reads_back() -> None:
    values = json.loads(front_json(summarize(full_study())), parse_constant=no_constant)

    assert list(values) == ["study", "front", "trials", "device", "versions"]
    assert values["trials"] == {"complete": 4, "pruned": 1, "failed": 1, "cached": 1, "running": 1}
    assert (values["study"], values["device"], values["versions"]) == ("structural", DEVICE, {"torch": "2.14.0"})
    assert [entry["trial_number"] for entry in values["front"]] == [2, 0, 3]
    assert values["front"][1] == {
        "arch": MIDDLE,
        "latency_ms": 12.25,
        "ap": 0.2,
        "num_params": 1_234_567,
        "multiply_adds": 56_700_000,
        "trial_number": 0,
        "baseline": True,
        "weights": f"runs/{MIDDLE}",
        "metrics": {"ap": 0.2, "ap50": 0.4125, "ap75": 0.1, "ap_small": None, "ar1": None},
        "latency": {"ratio": 0.5, "median_ms": 12.5, "p10_ms": 12.0, "p90_ms": 13.0, "reference_median_ms": 25.0},
    }
    assert values["front"][0]["weights"] is None


def test_json_and_csv_of_an_empty_study() -> None:
    summary = summarize(new_study())

    assert json.loads(front_json(summary))["front"] == []
    assert len(front_csv(summary).splitlines()) == 1
