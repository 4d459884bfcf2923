from __future__ import annotations

import json
from dataclasses import replace

from smnas_optuna.report.dashboard.front_plot import front_plot
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import summarize

from ..report_studies import both_stages, full_study


def test_members_of_each_stage_and_the_others_are_traces_of_their_own() -> None:
    summary = summarize(*both_stages())
    figure = json.loads(front_plot(summary, page_points(summary, 0.02)))
    traces = {trace["name"]: trace for trace in figure["data"]}

    assert traces["front"]["x"] == [3.5, 10.0, 140.0, 150.0]
    assert traces["on the front, stage 1"]["text"] == ["1", "3"]
    assert traces["on the front, stage 2"]["x"] == [10.0, 150.0]
    assert traces["on the front, stage 2"]["error_y"]["array"] == [2.0, 2.0]
    assert traces["baselines"]["x"] == [12.25]
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_limits_are_lines() -> None:
    summary = replace(summarize(full_study()), max_latencies_ms=(20.0,))
    (line,) = json.loads(front_plot(summary, page_points(summary, None)))["layout"]["shapes"]

    assert (line["x0"], line["x1"]) == (20.0, 20.0)


def test_the_name_of_a_device_is_text() -> None:
    summary = replace(summarize(full_study()), device={"kind": "cuda", "model": "<img src=x onerror=alert(1)>\u202e"})
    figure = front_plot(summary, page_points(summary, None))

    assert "<img" not in figure
    assert "&lt;img src=x onerror=alert(1)&gt;\\ufffd" in figure
