from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.report.study_page import gather
from smnas_optuna.report.study_page.gather import Gatherer, most_valuable
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import summarize
from smnas_optuna.study.folder import StudyFolder
from tests.final_training.trainings import finished
from tests.report.report_studies import MIDDLE, STRONG, full_study


def test_baselines_are_the_most_valuable_then_those_whose_loss_costs_the_front_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast, baseline, strong, other = page_points(summarize(full_study()), None)

    # 6.25 AP from 3.5 to 12.25 ms, 30 AP from 140 ms on
    assert [point.name for point in most_valuable([fast, baseline, strong, other])] == ["2", "3", "1"]
    monkeypatch.setattr(gather, "MOST_COUNTED", 1)
    assert [point.name for point in most_valuable([fast, baseline, strong, other])] == ["2"]


def test_what_names_no_architecture_is_known_by_its_numbers_alone(tmp_path: Path) -> None:
    point = page_points(summarize(full_study()), None)[0]
    odd = replace(point, record=replace(point.record, arch="../x", attrs={"arch": "../x"}))

    (known,) = Gatherer(StudyFolder(tmp_path), None, 3, "There are no pictures: no data.").known_of([odd])

    assert (known.modules, known.curve, known.weights) == ([], None, None)
    assert known.no_pictures == "There are no pictures: no data."


def test_a_better_training_is_what_the_commands_of_a_panel_use(tmp_path: Path) -> None:
    points, folder = page_points(summarize(full_study()), None), StudyFolder(tmp_path)
    for arch in (MIDDLE, STRONG):
        run = folder.make_run(arch)
        (run / "weights.safetensors").touch()
    better = finished(tmp_path, "long", 0.9, arch=MIDDLE)

    known = Gatherer(folder, None, 3, "no data").known_of(points)

    found = {point.arch: each.weights for point, each in zip(points, known, strict=True) if each.weights is not None}
    assert found == {MIDDLE: better, STRONG: folder.run(STRONG)}


def test_a_member_whose_modules_are_not_counted_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gather, "MOST_COUNTED", 1)
    points = [point for point in page_points(summarize(full_study()), None) if point.named]
    known = Gatherer(StudyFolder(tmp_path), None, 3, "no data").known_of(points)

    assert [bool(each.modules) for each in known] == [not each.no_modules for each in known] == [False, True, False]
