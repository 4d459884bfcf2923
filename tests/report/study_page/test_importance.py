from __future__ import annotations

from dataclasses import replace

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.report.study_page.importance import choices_of, explained, importances
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import summarize
from smnas_optuna.study.record import TrialRecord
from tests.report.report_studies import FAST, MIDDLE, SLIM, full_study

SMALL, LARGE = (f"{size}.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128" for size in ("64x48", "128x96"))


def _records(*rows: tuple[str, float, float]) -> list[TrialRecord]:
    model = page_points(summarize(full_study()), None)[0].record
    return [replace(model, arch=arch, ap=ap, latency_ms=ms) for arch, ap, ms in rows]


def test_groups_that_are_all_alike_inside_explain_everything() -> None:
    assert explained([[1.0, 1.0], [2.0, 2.0]]) == 1.0


def test_what_random_groups_explain_counts_as_nothing() -> None:
    assert explained([[1.0, 2.0], [1.0, 2.0]]) == 0.0
    assert explained([[1.0], [2.0], [3.0]]) == 0.0  # a group each
    assert explained([[1.0, 1.0], [1.0]]) == 0.0  # no variance


def test_the_share_is_epsilon_squared() -> None:
    low, high, inside = [0.0, 0.5, 1.0], [2.0, 2.5, 3.0], 1.0
    whole = sum((value - 1.5) ** 2 for value in (*low, *high))

    assert explained([low, high]) == pytest.approx(1 - inside / whole * 5 / 4)


def test_the_choice_that_ap_follows_is_first_and_choices_without_a_difference_are_left_out() -> None:
    rows = [(arch, ap, ms) for arch, ap in ((SMALL, 0.1), (LARGE, 0.3)) for ms in (1.0, 2.0, 3.0, 4.0)]
    found = importances(_records(*rows))

    assert [each.name for each in found] == ["input size"]
    assert (found[0].of_ap, found[0].of_latency) == (1.0, 0.0)
    assert [(value.name, value.count, value.mean_ms) for value in found[0].values] == [
        ("128x96", 4, 2.5),
        ("64x48", 4, 2.5),
    ]


def test_few_trainings_say_nothing() -> None:
    assert importances(_records(*[(SMALL, 0.1, 1.0)] * 7)) == []
    assert importances([]) == []


@pytest.mark.parametrize(
    ("arch", "backbone", "head"),
    [(FAST, "resnet18", "retina"), (MIDDLE, "resnet18", "fc"), (SLIM, "basicblock 1-12-21-2", "fc")],
)
def test_choices_are_named_as_people_name_them(arch: str, backbone: str, head: str) -> None:
    choices = choices_of(decode(arch))

    assert (choices["backbone"], choices["head"]) == (backbone, head)
