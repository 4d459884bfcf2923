"""Detectors from outside in a study folder, in the picture of the front, and on the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.report.figures.front_figure import draw_front
from smnas_optuna.report.outside import Outside, read_outside
from smnas_optuna.report.study_page.front_section import front_section
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.scale import Unit

from .figures.pictures import legend
from .report_studies import full_study

NAME = "yolo$<b>"
ENTRY: dict[str, Any] = {
    "sha256": "0f",
    "input": "1x3x64x64 tensor(float)",
    "ratio": 2.0,
    "ratio_low": 1.9,
    "ratio_high": 2.1,
    "val": {"metrics": {"ap": 0.25, "ap50": 0.5, "ap_low": 0.2, "ap_high": 0.3, "ap_small": None}},
    "test": None,
}


def write(folder: StudyFolder, entries: object, **differences: object) -> Path:
    folder.report.mkdir(parents=True, exist_ok=True)
    file = folder.report / "outside.json"
    file.write_text(json.dumps({"format": 1, "detectors": entries, **differences}))
    return file


def seen(**differences: Any) -> Summary:
    """A study with one detector from outside, at 10 ms."""
    outside = Outside(name=NAME, ratio=2.0, ratio_low=1.9, ratio_high=2.1, metrics={"val": ENTRY["val"]["metrics"]})
    unit = Unit(ms=5.0, num_measurements=6, spread=0.0, num_alone=6)
    return replace(summarize(full_study()), unit=unit, outside=(replace(outside, **differences),))


def test_they_are_read_fastest_first(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert read_outside(folder) == ()

    write(folder, {"slow": {**ENTRY, "ratio": 3.0}, "fast": ENTRY})

    found = read_outside(folder)
    assert [each.name for each in found] == ["fast", "slow"]
    assert (found[0].ap("val"), found[0].interval("val"), found[0].ap("test")) == (0.25, (0.2, 0.3), None)


@pytest.mark.parametrize(
    ("entries", "differences"),
    [
        ([], {}),
        ({"a": {}}, {}),
        ({"a": {**ENTRY, "ratio": "fast"}}, {}),
        ({"a": {**ENTRY, "val": {"metrics": {"ap": 2.0}}}}, {}),
        ({"a": {**ENTRY, "val": {}}}, {}),
        ({"a\n": ENTRY}, {}),
        ({"a": ENTRY}, {"format": 2}),
    ],
    ids=["list", "empty", "text", "AP of 200", "no metrics", "name", "format"],
)
def test_a_damaged_file_is_named(tmp_path: Path, entries: object, differences: dict[str, object]) -> None:
    file = write(StudyFolder(tmp_path), entries, **differences)

    with pytest.raises(StudyError) as refusal:
        read_outside(StudyFolder(tmp_path))

    assert refusal.value.message.startswith(f"{file}: holds no detectors from outside (")
    assert refusal.value.fix.startswith("move it away, and time them again: smnas benchmark")


def test_the_picture_of_the_front_has_a_square_for_each() -> None:
    figure = draw_front(seen())

    assert f"from outside: {NAME}, AP 25.0, 10.0 ms" in legend(figure)
    (square,) = [line for line in figure.axes[0].lines if line.get_marker() == "s"]
    assert (list(square.get_xdata()), list(square.get_ydata())) == ([10.0], [25.0])  # type: ignore[arg-type]


def test_the_page_has_a_mark_and_a_row_for_each() -> None:
    summary = seen()
    section = front_section(page_points(summary, None), summary)

    assert section.count('class="mark outside"') == 3, "both charts, and the legend"
    assert "yolo$&lt;b&gt;, from outside: AP 25.0 at 10.0 ms" in section
    assert "from outside: 1" in section
    assert "<td>10.0 (9.50-10.5)</td><td>25.0 (20-30)</td><td>-</td>" in section


def test_what_has_no_ap_in_the_images_for_validation_is_in_the_table_alone() -> None:
    summary = seen(metrics={"test": {"ap": 0.5}})
    section = front_section(page_points(summary, None), summary)

    assert 'class="mark outside"' not in section
    assert "<td>-</td><td>50.0</td>" in section


def test_the_axes_hold_what_is_slower_than_all_detectors() -> None:
    summary = seen(ratio=200.0)
    section = front_section(page_points(summary, None), summary)

    assert section.count('class="mark outside"') == 3
