"""A campaign whose workers train nothing: each phase spends its time on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from smnas_optuna.campaign.ledger import LEDGER_FILE, Ledger
from smnas_optuna.campaign.request import CampaignRequest
from smnas_optuna.campaign.run import LOG_FILE, Campaign
from smnas_optuna.errors import StudyError
from smnas_optuna.report.summary import summarize
from smnas_optuna.search.request import Request
from smnas_optuna.study.attributes import ENDED
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.verify.request import VerifyRequest
from smnas_optuna.verify.verdict import choose_candidates

ARCHS = [f"64x64.resnet18-w{width}.fpn-p2-p5-c16.rpn.fc-w32" for width in range(4, 300, 4)]
BEGIN = 1.7e9


class Killed(BaseException):
    """What ends the process of the campaign at any moment."""


class Machine:
    """Workers that take ``start_s`` to start and ``training_s`` for each training; a retraining takes twice as long.

    Args:
        folder: The study folder.

    Attributes:
        now: Time by its clock.
        killed_at: Time at which the process is killed.
        failing: True if its searches fail.
        latency_s: Seconds of a measurement, as trials store them.
        most: Trainings after which a search ends, whatever time it has.
        sleeps_at: Time at which the machine sleeps for ten hours.
        slept_s: Seconds for which it has slept.
        asked: Tasks and requests so far.
    """

    def __init__(self, folder: StudyFolder, *, training_s: float = 100.0, start_s: float = 10.0) -> None:
        self.folder, self.training_s, self.start_s = folder, training_s, start_s
        self.now, self.killed_at, self.failing, self.latency_s = BEGIN, float("inf"), False, 0.5
        self.most: float = float("inf")
        self.sleeps_at, self.slept_s = float("inf"), 0.0
        self.asked = list[tuple[str, Any]]()

    def clock(self) -> float:
        return self.now

    def launch(self, task: str, values: Mapping[str, Any], _: Callable[[], int]) -> int:
        if task == "verify":
            verified = VerifyRequest.from_json(values)
            self.asked.append((task, verified))
            left = verified.wanted(2)
            while left and self._spend(2 * self.training_s, verified.deadline):
                left.pop()
            return 0
        request = Request.from_json(values)
        self.asked.append((task if task != "search" else request.stage, request))
        self.now += self.start_s
        if task == "search":
            self._search(request)
        return 0

    def _search(self, request: Request) -> None:
        name = STRUCTURAL if request.stage == "structural" else f"modular/{ARCHS[0]}"
        study, place = self.folder.create(name, optuna.samplers.RandomSampler()), 0 if name == STRUCTURAL else 36
        count, most = len(study.trials), len(study.trials) + self.most
        while (count < (most if request.deadline is not None else 5)) and self._spend(
            self.training_s + self.latency_s, request.deadline
        ):
            attrs: dict[str, Any] = {"arch": ARCHS[place + count], "epochs_before": 0, "epochs_done": 2}
            attrs["seconds"] = {
                "train": 0.9 * self.training_s,
                "evaluate": 0.1 * self.training_s,
                "latency": self.latency_s,
            }
            values = (1.0 + count, 0.1 + count / 100)
            trial = create_trial(state=TrialState.COMPLETE, values=values, user_attrs=attrs)
            trial.datetime_complete = datetime.fromtimestamp(self.now)
            study.add_trial(trial)
            count += 1
        study.set_user_attr(ENDED, {"reason": "time is up", "failed": self.failing})

    def _spend(self, seconds: float, deadline: Any) -> bool:
        if deadline is not None and self.now + seconds > deadline.at:
            return False
        if self.now + seconds > self.killed_at:
            raise Killed
        if self.now > self.sleeps_at:
            self.sleeps_at, self.slept_s = float("inf"), 36_000.0
            self.now += self.slept_s
        self.now += seconds
        return True


def campaign(machine: Machine, hours: float | None, notes: list[str] | None = None) -> Campaign:
    folder = machine.folder

    def candidates() -> Any:
        found = summarize(*folder.of_stage(None))
        return lambda top: choose_candidates(found.front, found.records, [ARCHS[0]], found.reference, top)

    return Campaign(
        CampaignRequest(study_dir=folder.path, hours=hours),
        machine.launch,
        workers=1,
        candidates=candidates,
        note=(notes if notes is not None else []).append,
        clock=machine.clock,
        timer=lambda: machine.now - machine.slept_s,
    )


@pytest.fixture
def machine(study_dir: Path) -> Machine:
    return Machine(StudyFolder(study_dir))


def phases(machine: Machine) -> list[str]:
    return [name for name, _ in machine.asked]


@pytest.mark.parametrize("hours", [1.0, 2.0, 5.0 / 3])
def test_a_budget_ends_within_a_tenth_of_it_with_all_phases(machine: Machine, hours: float) -> None:
    notes = list[str]()
    made = campaign(machine, hours, notes)

    assert made.run() == 0

    assert phases(machine) == ["structural", "modular", "retime", "verify"]
    assert 0.9 * 3600 * hours <= machine.now - BEGIN <= 3600 * hours
    assert notes[0].startswith(f"budget: {hours:g} h, 0 % · ends about ")
    assert notes[1].startswith("phase 1 of 4: structural search, ")
    log = [line.split(" ", 1)[1] for line in (machine.folder.path / LOG_FILE).read_text().splitlines()]
    assert [line for line in log if line in notes] == notes
    assert made.verified is not None
    structural, modular = (machine.asked[place][1] for place in (0, 1))
    assert structural.deadline.end == modular.deadline.end == BEGIN + 3600 * hours
    assert modular.trials == int(notes[3].rsplit("about ", 1)[1].split()[0])


def test_the_hours_are_spent_and_more_hours_go_on(machine: Machine) -> None:
    campaign(machine, 1.0).run()
    spent_s, before = machine.now - BEGIN, len(machine.folder.records())
    machine.now += 1e6

    again = campaign(machine, 1.0)
    assert again.is_spent
    assert "the 1 h are spent (" in again.spent_line()
    assert f"smnas search {machine.folder.path} --hours 2" in again.spent_line()
    assert campaign(machine, 0.5).is_spent

    begun = machine.now
    more = campaign(machine, 2.0)
    assert not more.is_spent
    more.run()
    assert 0.9 * 7200 <= spent_s + machine.now - begun <= 7200
    assert len(machine.folder.records()) > before
    assert phases(machine)[4:] == ["structural", "modular", "retime", "verify"]
    first, later = (request for name, request in machine.asked if name == "modular")
    assert later.trials > first.trials
    assert later.num_parents >= first.num_parents


@pytest.mark.parametrize("killed_after_s", [50, 1000, 1900, 2500, 3300])
def test_a_kill_at_any_moment_goes_on_with_the_hours_that_are_left(machine: Machine, killed_after_s: float) -> None:
    machine.killed_at = BEGIN + killed_after_s
    with pytest.raises(Killed):
        campaign(machine, 1.0).run()
    spent_s, trained = machine.now - BEGIN, len(machine.folder.records())
    machine.killed_at, machine.now = float("inf"), machine.now + 1e5

    begun = machine.now
    campaign(machine, 1.0).run()

    assert 0.9 * 3600 <= spent_s + machine.now - begun <= 3600
    assert len(machine.folder.records()) >= trained
    assert phases(machine)[-1] == "verify"
    trials = {request.trials for name, request in machine.asked if name == "modular"}
    assert len(trials) == 1, "stage 2 goes on as it was planned"


@pytest.mark.parametrize("after_s", [5, 200, 1000, 1560, 2500, 3000])
def test_hours_in_which_the_machine_sleeps_are_not_spent(machine: Machine, after_s: float) -> None:
    machine.sleeps_at = BEGIN + after_s

    made = campaign(machine, 1.0)
    assert made.run() == 0

    assert machine.slept_s == 36_000
    assert 0.9 * 3600 <= machine.now - machine.slept_s - BEGIN <= 1.1 * 3600
    assert "verify" in phases(machine)
    assert made.is_spent


def test_too_few_hours_leave_phases_out_and_say_so(machine: Machine) -> None:
    notes = list[str]()
    campaign(machine, 0.15, notes).run()

    assert phases(machine)[0] == "structural"
    assert "verify" not in phases(machine)
    assert any("verification is left out" in note for note in notes)
    assert 0.75 * 540 <= machine.now - BEGIN <= 540


def test_what_the_last_phases_leave_goes_to_the_search(machine: Machine) -> None:
    machine.training_s, machine.latency_s, notes = 75.0, 9.0, list[str]()
    campaign(machine, 0.25, notes).run()

    assert any("joint timing is left out" in note for note in notes)
    assert phases(machine)[-1] == "modular"
    assert any("the modular search goes on with the rest, " in note for note in notes)
    assert 0.9 * 900 <= machine.now - BEGIN <= 900


def test_what_the_rest_finds_is_timed_together_with_all_else(machine: Machine) -> None:
    machine.most, notes = 1, list[str]()
    campaign(machine, 0.7, notes).run()

    assert phases(machine) == ["structural", "modular", "retime", "verify", "modular", "retime"]
    assert notes[-1].startswith("latencies of both fronts measured in one run, about ")
    assert machine.now - BEGIN <= 0.7 * 3600


def test_stage_1_gets_all_the_time_if_nothing_could_be_trained_in_its_share(machine: Machine) -> None:
    machine.training_s, notes = 2000.0, list[str]()
    campaign(machine, 1.0, notes).run()

    assert phases(machine) == ["structural", "structural"]
    assert any("stage 1 gets all that is left" in note for note in notes)
    assert any("stage 2 is left out" in note for note in notes)
    assert len(machine.folder.records()) == 1


def test_stage_1_gets_all_the_time_if_nothing_keeps_to_the_limits(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Campaign, "_has_front", lambda _: False)
    notes = list[str]()

    with pytest.raises(StudyError, match=r"none of [0-9]+ trained detectors keeps to the limits\n  fix: raise max_lat"):
        campaign(machine, 0.5, notes).run()

    assert phases(machine) == ["structural", "structural"]
    assert any("as nothing it trained keeps to the limits; " in note for note in notes)


def test_hours_in_which_nothing_could_be_trained_are_an_error_that_says_what_helps(machine: Machine) -> None:
    machine.training_s = 5000.0

    with pytest.raises(StudyError, match=r"not one training could end in 1 h\n  fix: allow more time \(--hours\)"):
        campaign(machine, 1.0).run()


def test_the_command_that_goes_on_can_be_copied_and_one_structure_is_no_structures(machine: Machine) -> None:
    blank = machine.folder.path.rename(machine.folder.path.with_name("my study"))
    machine.folder, notes = StudyFolder(blank), list[str]()
    campaign(machine, 0.25, notes).run()

    assert any("around 1 structure, " in note for note in notes)
    assert f"smnas search '{blank}' --hours 0.5" in campaign(machine, 0.25).spent_line()


def test_a_search_that_fails_ends_it(machine: Machine) -> None:
    machine.failing = True

    assert campaign(machine, 1.0).run() == 1
    assert phases(machine) == ["structural"]
    assert Ledger(machine.folder.path / LEDGER_FILE).finished_hours == 0


def test_without_hours_the_trainings_of_the_study_file_are_the_budget(machine: Machine) -> None:
    made = campaign(machine, None)

    assert not made.is_spent
    assert made.run() == 0
    assert phases(machine) == ["structural", "modular", "retime", "verify"]
    assert [request.deadline for _, request in machine.asked] == [None] * 4
    assert [request.trials for name, request in machine.asked if name != "verify"] == [None] * 3
    assert machine.asked[-1][1].seeds == 3
    assert not (machine.folder.path / LEDGER_FILE).exists()
