from __future__ import annotations

import re

from smnas_optuna.report.study_page.line_chart import Line, line_chart


def test_a_chart_says_its_last_values_and_names_two_lines_that_differ_in_dashes() -> None:
    lines = [Line(name="ours", points=[(1, 0.5), (2, 0.75)]), Line(name="theirs", points=[(1, 0.25)])]
    chart = line_chart("How it went", lines, "epoch", "AP")

    assert 'aria-label="How it went; ours: 0.75 at last, theirs: 0.25 at last"' in chart
    assert chart.count('class="line a"') == chart.count('class="line b"') == 2  # one of each in the legend
    assert chart.count("<circle") == 3


def test_epochs_have_whole_numbers_alone() -> None:
    chart = line_chart("Loss", [Line(name="", points=[(1, 2.0), (2, 1.5)])], "epoch", "loss")
    ticks = re.findall(r'text-anchor="middle" class="tick">([^<]+)<', chart)

    assert ticks == ["1", "2"]
    assert "legend" not in chart


def test_steps_hold_a_value_until_the_next() -> None:
    chart = line_chart("", [Line(name="", points=[(0, 0), (1, 1)], steps=True)], "x", "y")

    assert re.search(r'd="M[\d.]+ [\d.]+H[\d.]+V[\d.]+" class="line a"', chart)
    assert "<circle" not in chart


def test_a_chart_of_nothing_is_nothing() -> None:
    assert line_chart("Loss", [Line(name="", points=[])], "epoch", "loss") == ""
