from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.report.study_page.latency_parts import latency_parts
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import summarize
from smnas_optuna.report.tables import short
from smnas_optuna.runtime.parts import PARTS
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.scale import Latency
from tests.report.report_studies import full_study

RECORD = page_points(summarize(full_study()), 0.02)[1].record
TWO_STAGE = {
    "backbone": 0.4,
    "neck": 0.1,
    "rpn": 0.1,
    "proposals": 0.1,
    "pooling": 0.1,
    "head": 0.05,
    "selection": 0.1,
    "other": 0.05,
}
NOT_KNOWN = "Its parts are not known. smnas retime takes those of members of the front."


def _timed(parts: Any, ms: float = 1.587, runtime: str = "onnxruntime") -> TrialRecord:
    stored = {"median_ms": 2.0, "parts": parts, "runtime": runtime}
    return replace(RECORD, attrs={"latency": stored}, latency=Latency(ms=ms, low_ms=ms, high_ms=ms))


def test_the_parts_are_told_in_words_and_as_bars_in_a_row() -> None:
    text = latency_parts(_timed(TWO_STAGE))

    assert (
        "<p>Of 1.59 ms: the network 1.03 ms (65 %), proposals and pooling of their regions 0.32 ms (20 %), "
        "post-processing 0.16 ms (10 %), other work 0.08 ms (5 %).</p>"
    ) in text
    assert '<th scope="row">backbone</th><td>0.63 ms, 40 %</td>' in text
    bars = re.findall(r'style="(?:margin-left:([0-9.]+)%;)?width:([0-9.]+)%"', text)
    ends = [float(start or 0) + float(width) for start, width in bars]
    assert [float(start or 0) for start, _ in bars[1:]] == pytest.approx(ends[:-1], abs=0.01)
    assert ends[-1] == pytest.approx(100, abs=0.01)


def test_a_detector_of_one_stage_has_no_proposals() -> None:
    text = latency_parts(_timed({"backbone": 0.5, "head": 0.25, "selection": 0.25}, ms=12.34))

    assert "Of 12.3 ms: the network 9.2 ms (75 %), post-processing 3.1 ms (25 %)." in text
    assert "proposals" not in text


weights = st.dictionaries(st.sampled_from(sorted(PARTS)), st.floats(0.001, 1), min_size=1)


@given(ms=st.floats(0.01, 1e5), weights=weights)
def test_what_is_shown_adds_up(ms: float, weights: dict[str, float]) -> None:
    text = latency_parts(_timed({part: each / sum(weights.values()) for part, each in weights.items()}, ms=ms))

    cells = re.findall(r"<td>([0-9.]+) ms, ([0-9]+) %</td>", text)
    assert sum(Decimal(time) for time, _ in cells) == Decimal(short(ms))
    assert sum(int(percent) for _, percent in cells) == 100
    groups = re.findall(r" ([0-9.]+) ms \(([0-9]+) %\)", text)
    assert sum(Decimal(time) for time, _ in groups) == Decimal(short(ms))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        {"backbone": math.nan},
        {"backbone": 0.5},
        {"</script>": 1.0},
        [TWO_STAGE],
    ],
)
def test_parts_that_are_not_known_are_named(stored: Any) -> None:
    assert latency_parts(_timed(stored)) == f'<p class="soft">{NOT_KNOWN}</p>'


@pytest.mark.parametrize("ms", [math.inf, math.nan])
def test_a_latency_that_is_no_number_has_no_parts(ms: float) -> None:
    assert NOT_KNOWN in latency_parts(_timed(TWO_STAGE, ms=ms))


def test_nothing_is_said_of_detectors_in_torch_and_of_trials_without_a_latency() -> None:
    assert latency_parts(_timed(None, runtime="eager")) == ""
    assert latency_parts(replace(RECORD, attrs={})) == ""
