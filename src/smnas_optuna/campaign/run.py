"""A campaign from its first phase to its last; it trains nothing itself, and needs no torch."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from statistics import fmean
from typing import Any

from smnas_optuna.campaign.choice import MOST_SEEDS, SEEDS, TOP, Candidates, Selection, choose_selection
from smnas_optuna.campaign.ledger import LEDGER_FILE, Ledger, ModularPlan
from smnas_optuna.campaign.request import CampaignRequest
from smnas_optuna.campaign.shares import (
    FEWEST_TRAININGS,
    MORE_TIMED,
    MUCH,
    START_S,
    Budget,
    modular_trainings,
    num_parents,
)
from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.duration import format_seconds, plural
from smnas_optuna.errors import StudyError
from smnas_optuna.real_files import append_line
from smnas_optuna.search.request import Request, search_progress
from smnas_optuna.session.deadline import Deadline, clock_time
from smnas_optuna.session.workload import REPORT_SHARE, Workers, finish_s
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import contenders, pareto_front
from smnas_optuna.study.record import STRUCTURAL, StageName, TrialRecord
from smnas_optuna.study.settled import num_trained
from smnas_optuna.study.took import took
from smnas_optuna.verify.forecast import seconds_of
from smnas_optuna.verify.request import LONGER, VerifyRequest, verify_progress
from smnas_optuna.verify.results import Key, read_results
from smnas_optuna.verify.verification import RESULTS_FILE, verifying
from smnas_optuna.workers.assignment import Task

LOG_FILE = "search.log"
LOGGED_EVERY_S = 60.0
WITH_TESTS = 2.0
"""Images that are evaluated after a retraining, as an assumed multiple of the validation images, with test images."""

Launch = Callable[[Task, Mapping[str, Any], Callable[[], int]], int]
"""Runs workers that do a task for a request, given a function that shows their progress; returns their exit status."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verifying:
    """What a campaign verified.

    Attributes:
        request: The request of the verification.
        selection: The architectures.
    """

    request: VerifyRequest
    selection: Selection


class Campaign:
    """Both stages, joint timing and verification, one after the other; each resumes what exists.

    Args:
        request: The user's request.
        launch: Runs the workers of a phase.
        workers: Number of workers.
        candidates: Returns what could be verified by now; see :data:`smnas_optuna.campaign.choice.Candidates`.
        note: Receives lines for people.
        clock: Returns the seconds since 1970.
        timer: Returns what the hours are counted by; see :class:`Ledger`.
        begun: Value of ``clock`` from which time counts; by default that of :meth:`run`.

    Attributes:
        verified: What was verified; None if nothing was.

    Raises:
        SmnasError: If the settings or the time that was spent cannot be read.
    """

    def __init__(
        self,
        request: CampaignRequest,
        launch: Launch,
        *,
        workers: int,
        candidates: Callable[[], Candidates],
        note: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        begun: float | None = None,
    ) -> None:
        self._request, self._launch, self._workers = request, launch, workers
        self._candidates, self._say, self._clock, self._timer = candidates, note, clock, timer
        self._settings: StudySettings = load_settings(request.study_dir)
        self._path, self._folder = request.study_dir, StudyFolder(request.study_dir)
        self._ledger = Ledger(self._path / LEDGER_FILE, timer)
        self._spent_before_s = self._ledger.total_s
        self._logged_at, self._begun, self._start_s = clock(), begun, START_S
        self.verified: Verifying | None = None

    @property
    def is_spent(self) -> bool:
        """True if the budget was spent before; a larger one goes on."""
        total_s, hours = self._request.total_s, self._request.hours
        return total_s is not None and (
            self._ledger.finished_hours >= (hours or 0.0) or self._ledger.total_s >= total_s
        )

    def spent_line(self) -> str:
        """Return in words that the budget is spent."""
        hours, spent = self._request.hours or 0.0, format_seconds(self._ledger.total_s)
        more = f"smnas search {shlex.quote(str(self._path))} --hours {2 * max(hours, self._ledger.finished_hours):g}"
        return f"the {hours:g} h are spent ({spent} of work); more hours go on with it: {more}"

    def run(self) -> int:
        """Run all phases that are left; return the exit status of the workers that failed, or 0.

        Raises:
            Interrupted: If asked to stop; the same request goes on with the hours that are left.
            StudyError: If no training could end in the whole time, or the study cannot be used.
        """
        if self._request.total_s is None:
            return self._run_trainings()
        before_s = 0.0 if self._begun is None else max(0.0, self._clock() - self._begun)
        with self._ledger.counting(self._log_progress, before_s=before_s):
            self.note(self._begin_line())
            for phase in (self._structural, self._modular, self._timing, self._verification, self._rest):
                status = phase()
                if status != 0:
                    return status
            self._ledger.finished_hours = max(self._ledger.finished_hours, self._request.hours or 0.0)
        return 0

    @property
    def _plan(self) -> ModularPlan | None:
        """What stage 2 was planned with for this budget; None before it begins."""
        plan = self._ledger.plan
        return None if plan is None or plan.hours != self._request.hours else plan

    def note(self, line: str) -> None:
        """Report a line, and add it to the log."""
        self._say(line)
        self._log(line)

    def _run_trainings(self) -> int:
        """Run all phases with the budgets of the study file."""
        for stage, numbered in (("structural", "1 of 4, stage 1"), ("modular", "2 of 4, stage 2")):
            self.note(f"phase {numbered}: {stage} search")
            status = self._search(self._request.search("structural" if stage == "structural" else "modular"))
            if status != 0:
                return status
        self.note("phase 3 of 4: latencies of both fronts measured in one run")
        status = self._launch("retime", self._request.search("modular").as_json(), self._search_progress)
        if status != 0:
            return status
        chosen = self._candidates()(TOP)
        self.note(
            f"phase 4 of 4: verification of {len(chosen)} {plural(len(chosen), 'architecture')}, {SEEDS} trainings each"
        )
        return self._verify(Selection(candidates=chosen, seeds=SEEDS, seconds=0.0), None)

    def _structural(self) -> int:
        self._ledger.begin("structural")
        if self._plan is not None:
            return 0  # stage 2 has begun
        budget = self._budget()
        seconds, shortest_s = budget.structural_s(), self._shortest_s()
        if seconds > (shortest_s and shortest_s + self._start_s):
            deadline = budget.deadline(seconds)
            self.note(f"phase 1 of 4: structural search, {self._until(seconds, deadline)}")
            status = self._search(self._request.search("structural", deadline))
            if status != 0:
                return status
        budget = self._budget()
        if not self._has_front() and budget.left_s > 0:
            deadline = budget.deadline(budget.left_s, last=True)
            why = "nothing it trained keeps to the limits" if self._trained() else "no training could end in its time"
            self.note(
                f"stage 1 gets all that is left, and the other phases are left out, as {why}; "
                f"{self._until(budget.left_s, deadline)}"
            )
            status = self._search(self._request.search("structural", deadline))
            if status != 0:
                return status
        if not self._trained():
            raise StudyError(
                f"{self._path}: not one training could end in {self._request.hours:g} h",
                fix="allow more time (--hours), or train for less (epochs, input sizes, images); what was begun "
                "goes on from its checkpoint",
            )
        if not self._has_front():
            raise StudyError(
                f"{self._path}: none of {self._trained()} trained detectors keeps to the limits",
                fix="raise max_latency_ms or max_params under [search] in study.toml, and allow more time: --hours H; "
                "smaller input sizes or widths are another study",
            )
        return 0

    def _modular(self) -> int:
        self._ledger.begin("modular")
        budget = self._budget()
        seconds = budget.modular_s(self._timing_s(more=MORE_TIMED), self._wished_s(budget))
        plan = self._plan
        if plan is None:
            trainings = modular_trainings(seconds - self._start_s, self._trials_s(), self._trained(), self._workers)
            if trainings < FEWEST_TRAININGS:
                self.note(f"stage 2 is left out: about {trainings} trainings would fit into {format_seconds(seconds)}")
                return 0
            trainings += num_trained(record for record in self._records() if record.study != STRUCTURAL)
            parents = num_parents(trainings, self._settings.modular.parents)
            plan = ModularPlan(hours=self._request.hours or 0.0, trials=trainings, parents=parents)
            self._ledger.plan = plan
        elif seconds <= self._shortest_s() + self._start_s:
            return 0
        deadline, around = budget.deadline(seconds), f"{plan.parents} {plural(plan.parents, 'structure')}"
        self.note(
            f"phase 2 of 4: modular search around {around}, {self._until(seconds, deadline)}, about "
            f"{plan.trials} trainings"
        )
        return self._search(self._request.search("modular", deadline, trials=plan.trials, num_parents=plan.parents))

    def _timing(self, title: str = "phase 3 of 4: ") -> int:
        self._ledger.begin("timing")
        budget, seconds = self._budget(), self._timing_s()
        if not self._folder.modular:
            return 0
        if seconds > budget.left_s or not budget.allows_timing(seconds):
            self.note(f"joint timing is left out: it takes about {format_seconds(seconds)}; smnas retime does it later")
            return 0
        self.note(f"{title}latencies of both fronts measured in one run, about {format_seconds(seconds)}")
        request = self._request.search("modular", budget.deadline(budget.left_s, last=True))
        return self._launch("retime", request.as_json(), self._search_progress)

    def _verification(self) -> int:
        self._ledger.begin("verification")
        budget = self._budget()
        selection = self._selection(max(0.0, budget.left_s))
        if selection is None:
            left = format_seconds(budget.left_s)
            self.note(f"verification is left out: not even one training fits into {left}; smnas verify does it later")
            return 0
        deadline, count = budget.deadline(budget.left_s, last=True), len(selection.candidates)
        self.note(
            f"phase 4 of 4: verification of {count} {plural(count, 'architecture')}, "
            f"{selection.seeds} {plural(selection.seeds, 'training')} each, about {format_seconds(selection.seconds)}"
        )
        return self._verify(selection, deadline)

    def _rest(self) -> int:
        """Go on with the search if there is time for another training; then both fronts are measured in one run again.

        What it finds is not verified; so after a verification it goes on only where much is left.
        """
        budget = self._budget()
        stage: StageName = "structural" if self._plan is None else "modular"
        timing_s = self._timing_s(more=MORE_TIMED) if self._folder.modular else 0.0
        timing_s = timing_s if budget.allows_timing(timing_s) else 0.0
        seconds, least_s = budget.left_s - timing_s, 0.0 if self.verified is None else MUCH * budget.total_s
        if seconds <= max(least_s, self._shortest_s() + self._start_s):
            return 0
        self._ledger.begin(stage)
        deadline, before = budget.deadline(seconds, last=timing_s == 0), num_trained(self._records())
        self.note(f"the {stage} search goes on with the rest, {self._until(seconds, deadline)}")
        plan = self._plan or ModularPlan(hours=1.0, trials=1, parents=1)
        status = self._search(self._request.search(stage, deadline, trials=plan.trials, num_parents=plan.parents))
        if status != 0 or timing_s == 0 or num_trained(self._records()) == before:
            return status
        return self._timing(title="")

    def _search(self, request: Request) -> int:
        """Search a stage; return the exit status, also that of a search that failed."""
        begun, timed = self._clock(), self._timer()
        status = self._launch("search", request.as_json(), self._search_progress)
        if status != 0:
            return status
        if abs((self._clock() - begun) - (self._timer() - timed)) < START_S:  # the machine has not slept
            self._learn_start(begun)
        end = self._folder.ended(request.stage)
        self.note(f"{request.stage} search ended: {end['reason']}")
        return int(bool(end["failed"]))

    def _learn_start(self, begun: float) -> None:
        """Learn how long a worker takes to start, from the first trial after ``begun``."""
        timed = [(r.ended.timestamp(), sum(r.attrs.get("seconds", {}).values())) for r in self._records() if r.ended]
        begins = [ended - seconds for ended, seconds in timed if seconds and ended - seconds >= begun]
        self._start_s = min(begins) - begun if begins else self._start_s

    def _verify(self, selection: Selection, deadline: Deadline | None) -> int:
        request = self._request.verification(selection.archs, selection.seeds, deadline)
        with verifying(request):
            status = self._launch("verify", request.as_json(), partial(verify_progress, request.folder))
        self.verified = Verifying(request=request, selection=selection)
        return status

    def _selection(self, left_s: float, most_seeds: int = MOST_SEEDS) -> Selection | None:
        """Return what can be verified in ``left_s`` seconds."""
        records = self._records()
        results = read_results(self._path / "verify" / RESULTS_FILE)
        runs = {} if results is None else results.runs
        evaluated = 1.0 if self._settings.data.test is None else WITH_TESTS

        def seconds(keys: Sequence[Key]) -> float:
            left = [key for key in keys if key not in runs]
            expected = seconds_of(left, records, runs.values(), evaluated=evaluated) or {}
            workers = Workers(count=self._workers, start_s=self._start_s, started=False)
            report_s = REPORT_SHARE * self._start_s if left else 0.0  # kept apart, see shares.py
            return finish_s([expected.get(key, 0.0) for key in left], workers) - report_s

        epochs = LONGER * self._settings.for_modular().train.epochs
        size = len(pareto_front(records))
        return choose_selection(self._candidates(), size, seconds, epochs, left_s, most_seeds)

    def _wished_s(self, budget: Budget) -> float | None:
        """Return the seconds of verifying all that is on the front by now; None if its share allows no training."""
        if self._selection(budget.verification_s(budget.total_s)) is None:
            return None
        most = self._selection(float("inf"), SEEDS)
        return None if most is None else most.seconds

    def _timing_s(self, more: int = 0) -> float:
        """Return the seconds of a start, and of timing what may be on a front by now and so many more again."""
        records = self._records()
        timed = [each["latency"] for record in records if "latency" in (each := record.attrs.get("seconds", {}))]
        return self._start_s + ((len(contenders(records)) + more) * fmean(timed) if timed else 0.0)

    def _trials_s(self) -> float:
        """Return the seconds of all trials of stage 1 together, with as many epochs as a training of stage 2 has."""
        records = [record for record in self._records() if record.study == STRUCTURAL]
        longer = self._settings.for_modular().train.epochs / self._settings.train.epochs
        return longer * sum(sum(record.attrs.get("seconds", {}).values()) for record in records)

    def _shortest_s(self) -> float:
        """Return the seconds of the shortest training by now; 0 before the first."""
        records = self._records()
        found = [record.attrs["seconds"] for record in records if took(record, records) is not None]
        return min((sum(seconds.values()) for seconds in found), default=0.0)

    def _records(self) -> list[TrialRecord]:
        return self._folder.records()

    def _trained(self) -> int:
        study = self._folder.find(STRUCTURAL)
        return 0 if study is None else num_trained(r for r in self._records() if r.study == STRUCTURAL)

    def _has_front(self) -> bool:
        search = self._settings.search  # the limits of now, which no search may have stored yet
        limits = Limits(max_latency_ms=search.max_latency_ms, max_params=search.max_params)
        trained = [record for record in self._records() if record.trained]
        return any(limits.allow(latency_ms=record.latency_ms, num_params=record.num_params) for record in trained)

    def _budget(self) -> Budget:
        self._ledger.count()
        total_s = self._request.total_s
        assert total_s is not None, "phases have shares of a budget in hours"
        return Budget(total_s=total_s, spent_s=dict(self._ledger.spent_s), now=self._clock())

    def _search_progress(self) -> int:
        return search_progress(self._path)

    def _begin_line(self) -> str:
        budget, hours = self._budget(), self._request.hours
        words = budget.deadline(0.0).in_words(self._clock())
        spent = f"; {format_seconds(self._spent_before_s)} were spent before" if self._spent_before_s else ""
        return f"budget: {hours:g} h, {words}{spent}"

    def _until(self, seconds: float, deadline: Deadline) -> str:
        return f"{format_seconds(seconds)}, until {clock_time(deadline.at, self._clock())}"

    def _log_progress(self) -> None:
        if self._clock() - self._logged_at >= LOGGED_EVERY_S:
            self._logged_at = self._clock()
            budget = Budget(total_s=self._request.total_s or 1.0, spent_s=dict(self._ledger.spent_s), now=self._clock())
            self._log(f"{self._ledger.phase}: {budget.deadline(0.0).in_words(self._clock())}")

    def _log(self, line: str) -> None:
        at = datetime.fromtimestamp(self._clock()).astimezone().isoformat(timespec="seconds")
        append_line(self._path / LOG_FILE, f"{at} {line}")
