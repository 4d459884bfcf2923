from __future__ import annotations

import re
from dataclasses import replace

from smnas_optuna.report.study_page.front_chart import WIDE, frame_of, front_charts, names_that_fit
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import summarize
from tests.report.report_studies import FAST, MIDDLE, POOR, STRONG, both_stages, full_study


def test_every_trained_detector_is_a_link_to_its_panel_in_both_sizes() -> None:
    chart = front_charts(page_points(summarize(full_study()), 0.02), (), "a CPU")

    for arch in (FAST, MIDDLE, POOR, STRONG):
        assert chart.count(f'href="#arch={arch}"') == 2


def test_latencies_that_span_forty_times_have_a_logarithmic_axis() -> None:
    points = page_points(summarize(full_study()), 0.02)
    frame = frame_of(points, (), WIDE)

    assert frame.x.log
    assert "log scale" in front_charts(points, (), "a CPU")
    assert all(frame.x.holds(point.ms) for point in points)


def test_stages_and_baselines_have_shapes_of_their_own() -> None:
    chart = front_charts(page_points(summarize(*both_stages()), None), (), "a CPU")
    shapes = {name: path for path, name in re.findall(r'<path d="([^"]+)" class="mark ([^"]+)"', chart)}

    assert len({re.sub(r"[\d.]+", "", path) for path in shapes.values()}) >= 3
    assert "stage 1, on the front: " in chart
    assert "stage 2, on the front: " in chart


def test_error_bars_have_the_length_of_one_deviation() -> None:
    points = page_points(summarize(full_study()), 0.05)
    frame = frame_of(points, (), WIDE)
    at = frame.x.place(points[1].ms)
    bottom, top = frame.y.place(15.0), frame.y.place(25.0)

    assert f"M{at:.1f} {bottom:.1f}V{top:.1f}" in front_charts(points, (), "a CPU")
    assert "AP ± 5.0, one standard deviation over seeds" in front_charts(points, (), "a CPU")
    assert "one standard deviation" not in front_charts(page_points(summarize(full_study()), None), (), "a CPU")


def test_limits_are_lines_or_named_where_they_are_beyond_the_chart() -> None:
    chart = front_charts(page_points(summarize(full_study()), None), (20.0, 5000.0), "a CPU")

    assert chart.count("limit 20 ms") == 2
    assert "limit 5000 ms: right of the chart" in chart


def test_names_that_would_overlap_are_left_out() -> None:
    point = page_points(summarize(full_study()), None)[1]
    beside = [
        replace(point, name=str(number), record=replace(point.record, latency_ms=ms, latency=None))
        for number, ms in enumerate([12.0, 12.1, 100.0], start=1)
    ]
    frame = frame_of(beside, (), WIDE)

    assert names_that_fit(frame, beside) == {"2", "3"}
    assert front_charts(beside, (), "a CPU").count('class="name"') == 4  # two in each size


def test_a_detector_without_a_panel_is_no_link() -> None:
    points = [replace(point, has_panel=False) for point in page_points(summarize(full_study()), None)]

    assert "href=" not in front_charts(points, (), "a CPU")


def test_a_point_is_named_in_lines() -> None:
    chart = front_charts(page_points(summarize(full_study()), 0.02), (), "a CPU")

    assert "on the front\ninput 128x96 px" in chart
    assert "\N{REPLACEMENT CHARACTER}" not in chart


def test_members_and_baselines_lie_on_top_of_dominated_detectors() -> None:
    chart = front_charts(page_points(summarize(full_study()), 0.02), (), "a CPU").partition("</svg>")[0]

    assert chart.index(f'data-arch="{POOR}"') < min(chart.index(f'data-arch="{arch}"') for arch in (FAST, STRONG))
