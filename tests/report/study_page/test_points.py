from __future__ import annotations

import pytest

from smnas_optuna.report.study_page import points as points_module
from smnas_optuna.report.study_page.front_chart import front_charts
from smnas_optuna.report.study_page.points import members_of, page_points, words_of
from smnas_optuna.report.summary import summarize
from tests.report.report_studies import FAST, MIDDLE, POOR, STRONG, both_stages, full_study


def test_points_are_the_front_then_baselines_then_the_others() -> None:
    points = page_points(summarize(full_study()), 0.02)

    assert [(point.name, point.arch, point.kind) for point in points] == [
        ("1", FAST, "front"),
        ("2", MIDDLE, "front"),
        ("3", STRONG, "front"),
        ("", POOR, "other"),
    ]
    assert [point.name for point in members_of(points)] == ["1", "2", "3"]


def test_a_point_says_what_it_is_in_words() -> None:
    point = page_points(summarize(full_study()), 0.02)[1]

    assert point.title == "2 · AP 20.0 at 12.2 ms"
    assert point.origin == "stage 1, baseline, on the front"
    assert point.said[-1].startswith("input 128x96 px, resnet18 with base width 16, FPN p2..p5")
    assert point.anchor == f"arch={MIDDLE}"


def test_baselines_off_the_front_have_names_of_their_own() -> None:
    points = page_points(summarize(*both_stages()), None)

    assert [(point.name, point.kind) for point in points if point.record.baseline] == [("b1", "baseline")]
    assert {point.stage for point in points} == {"1", "2"}


def test_a_baseline_beyond_a_limit_is_a_cross_with_a_name() -> None:
    study = full_study()
    study.set_user_attr("limits", {"max_latency_ms": 10.0})
    points = page_points(summarize(study), None)

    assert [(point.name, point.kind) for point in points if point.arch == MIDDLE] == [("b1", "beyond")]
    assert next(point.origin for point in points if point.arch == MIDDLE) == "stage 1, baseline, beyond a limit"
    assert "beyond a limit: 3" in front_charts(points, (10.0,), "a CPU")


def test_dominated_detectors_beyond_some_number_have_no_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "MOST_OTHERS", 0)

    assert [point.has_panel for point in page_points(summarize(full_study()), None)] == [True, True, True, False]


def test_what_names_no_architecture_stays_as_it_is() -> None:
    assert words_of("<b>") == "<b>"
