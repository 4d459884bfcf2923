"""The budget of several studies together, as one worker sees it beside others."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from smnas_optuna.search.shared_budget import SharedBudget
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from smnas_optuna.workers.crew import Crew, open_crew

ARCHS = [f"64x48.resnet18-w{width}.fpn-p2-p5-c32.rpn.fc-w64" for width in (8, 12, 16, 24)]


class TwoStudies:
    """Two studies of a folder, and a budget of theirs as the search of the first sees it."""

    def __init__(self, path: Path, total: int) -> None:
        folder = StudyFolder(path)
        self.own, self.other = (folder.create(f"modular/{arch}", RandomSampler()) for arch in ARCHS[:2])
        self.crew, self.other_crew = open_crew(self.own, folder), open_crew(self.other, folder)
        self.budget = SharedBudget(total, [(self.other, self.other_crew)], Limits(), lambda _: None, list)

    def leaves(self, arch: str) -> bool:
        return self.budget.claims(self.crew).leave(arch, read_records(self.own), {})

    def ends(self) -> str | None:
        outcome = self.budget.stop_reason(read_records(self.own), {})
        return None if outcome is None else outcome.reason


def add(study: optuna.Study, arch: str, *, running: bool = False) -> None:
    attrs = {"arch": arch}
    if running:
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=attrs))
    else:
        study.add_trial(create_trial(values=(1.0, 0.5), user_attrs=attrs))


@pytest.mark.parametrize(("total", "left"), [(2, False), (3, True)])
def test_an_older_claim_in_another_study_comes_first(tmp_path: Path, total: int, left: bool) -> None:
    two = TwoStudies(tmp_path, total)
    add(two.other, ARCHS[0])
    assert two.other_crew.claim(ARCHS[1])
    assert two.crew.claim(ARCHS[2])

    assert two.leaves(ARCHS[2]) == left


def test_a_younger_claim_comes_later_and_what_has_ended_counts_once(tmp_path: Path) -> None:
    two = TwoStudies(tmp_path, 2)
    assert two.other_crew.claim(ARCHS[0])
    add(two.other, ARCHS[0])  # it has ended, and its claim is not released yet
    assert two.crew.claim(ARCHS[2])
    assert two.other_crew.claim(ARCHS[1])

    assert two.leaves(ARCHS[2])


def test_claims_of_studies_that_have_no_part_in_the_budget_do_not_count(tmp_path: Path) -> None:
    two = TwoStudies(tmp_path, 1)
    structural = StudyFolder(tmp_path).create("structural", RandomSampler())
    assert Crew.claim(open_crew(structural, StudyFolder(tmp_path)), ARCHS[0])
    assert two.crew.claim(ARCHS[2])

    assert two.leaves(ARCHS[2])


def test_a_search_ends_when_all_studies_together_have_the_budget(tmp_path: Path) -> None:
    two = TwoStudies(tmp_path, 3)
    add(two.own, ARCHS[0])
    add(two.other, ARCHS[1])
    assert two.ends() is None
    add(two.other, ARCHS[2], running=True)
    assert two.ends() == "other workers have the rest of the work: 1 being trained"
    add(two.other, ARCHS[3])
    assert two.ends() == "budget reached: 3 of 3 architectures are trained"


def test_what_is_about_to_be_answered_is_not_being_trained(tmp_path: Path) -> None:
    two = TwoStudies(tmp_path, 2)
    add(two.other, ARCHS[1])
    add(two.other, ARCHS[1], running=True)

    assert two.ends() is None
