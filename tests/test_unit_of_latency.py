"""The benchmark of agreeing milliseconds: its numbers and its table; the searches are the product's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules
import unit_of_latency

A, B = "64x48.a", "128x96.b"


def study(a: float, *, precise: bool = True) -> dict[str, Any]:
    return {
        "load": [0.5, 2.25],
        "constant_ms": 9.0,
        "unit_ms": a,
        "measurements": 6,
        "doubt": "scattered" if a > 10.2 else None,
        "latency_ms": {A: a, B: 2 * a},
        "precise": {A: precise, B: True},
    }


def test_the_largest_difference_is_relative_to_the_fastest_and_only_precise_latencies_count() -> None:
    found = [study(10.0), study(10.5), study(30.0, precise=False)]

    latencies = [unit_of_latency.precise_ms(each) for each in found]

    assert latencies == [{A: 10.0, B: 20.0}, {A: 10.5, B: 21.0}, {B: 60.0}]
    assert unit_of_latency.largest_differences(latencies) == pytest.approx({A: 0.05, B: 2.0})


def test_the_table_has_a_row_for_each_study_and_the_differences() -> None:
    found = {"disturbed": study(10.0), "second": study(10.4, precise=False)}

    *_, first, second, last = unit_of_latency.table(found, {A: 0.04}).splitlines()

    assert first == "| disturbed | 0.5 to 2.2 | 9.00 | 10.00 (6) | 10.00 |"
    assert second == "| second | 0.5 to 2.2 | 9.00 | 10.40 (6, doubtful) | 10.40 (imprecise) |"
    assert last == "| difference | | | | 4.0 % |"
