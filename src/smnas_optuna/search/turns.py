"""The studies of stage 2, searched in turns: a turn goes to the parent that promises most."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import optuna
from optuna.study import Study

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import StudySettings
from smnas_optuna.duration import plural
from smnas_optuna.search.evolution.children import ChildGeneration
from smnas_optuna.search.evolution.promise import promises
from smnas_optuna.search.evolution.sampler import build_ranking, build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.outcome import ENDLESS, Outcome
from smnas_optuna.search.plan import Progress, Standing, StudyPlan, next_turn
from smnas_optuna.search.shared_budget import SharedBudget, running_of
from smnas_optuna.search.stage import Stage
from smnas_optuna.search.surrogate.observations import Observation, observations_of
from smnas_optuna.search.timekeeper import Timekeeper, time_up
from smnas_optuna.session.listener import Listener, PartOfAStage
from smnas_optuna.study.fingerprint import trained_alike
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import INTERRUPTED, MODULAR_PREFIX, STRUCTURAL, TrialRecord, read_records, stage_name
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.study.settled import known_results, num_trained
from smnas_optuna.workers.crew import Crew, open_crew
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.recovery import recover_dead_trials

DRAWN_SHARE = 0.1
"""Share of the surrogate's choices around a parent in which random draws compete with children of the front."""
OTHER_RECIPE = "another recipe"
"""Task of what was trained with another recipe, for the surrogate: it learns an offset for the recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """The other studies of the folder, as one of them sees them.

    Attributes:
        alike: Those that were trained with the same recipe: their APs compare, and their architectures are known.
        unlike: Those that were trained with another recipe.
    """

    alike: Sequence[Study]
    unlike: Sequence[Study]

    def trials(self) -> list[TrialRecord]:
        """Return the trials whose APs compare."""
        return _records_of(self.alike)

    def trained_otherwise(self) -> list[TrialRecord]:
        """Return the trials of another recipe."""
        return _records_of(self.unlike)


class Evaluator(Protocol):
    """Trains architectures; :class:`smnas_optuna.search.objective.Objective` is the one that does."""

    def __call__(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        """Return the result of ``spec``; see :func:`smnas_optuna.search.loop.search` for its errors."""

    def tidy(self, records: list[TrialRecord]) -> None:
        """Remove what ended trials do not need any more."""


class Turns:
    """Searches the studies of a stage, until their budget is spent.

    Stage 1 has one study. Those of stage 2 take turns; see :func:`smnas_optuna.search.plan.next_turn`.

    Args:
        folder: The study folder.
        settings: Settings of the study file.
        limits: Limits in force.
        worker: Number of this worker among those that start together.
        listener: Receives reports.
        stop: Checked at every step.
        count: Counts multiply-adds and parameters with the constants of the study.
        evaluator: Makes what trains the architectures of a study, given its plan, its workers, the other studies and a
            listener.
        earlier: Returns what is known from other study folders, for the surrogate.
        time_gate: Times a candidate before training; see :func:`smnas_optuna.search.evolution.sampler.build_sampler`.
        worth_timing: Returns whether candidates are worth timing, likewise.
        timekeeper: Knows how much time is left; None if the budget is a number of trainings.
    """

    def __init__(
        self,
        folder: StudyFolder,
        settings: StudySettings,
        *,
        limits: Limits,
        worker: int,
        listener: Listener,
        stop: StopRequest,
        count: WorkCounter,
        evaluator: Callable[[StudyPlan, Crew, Beside, Listener], Evaluator],
        earlier: Callable[[], Iterable[Observation]] = list,
        time_gate: Callable[[DetectorSpec], float] | None = None,
        worth_timing: Callable[[Sequence[TrialRecord]], bool] = lambda _: True,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self._timekeeper = timekeeper
        self._folder, self._settings, self._limits, self._worker = folder, settings, limits, worker
        self._listener, self._stop, self._count, self._earlier = listener, stop, count, earlier
        self._evaluator, self._time_gate, self._worth_timing = evaluator, time_gate, worth_timing
        self._ranking = build_ranking(
            settings.search,
            limits,
            count=count,
            earlier=lambda: [*earlier(), *self._trained_otherwise()],
            seed=derive_seed(settings.search.seed, "promise"),
        )

    def search_all(self, plans: Sequence[StudyPlan], studies: Sequence[Study], budget: int) -> Outcome:
        """Search ``studies`` as their ``plans`` say, until ``budget`` architectures are trained in the whole stage."""
        if plans[0].name == STRUCTURAL:
            return self._search(plans[0], studies[0], budget, self._listener, None)
        stage = [(study, open_crew(study, self._folder)) for study in self._folder.modular]
        names = [stage_name(study) for study, _ in stage]
        planned = {plan.name: (plan, study) for plan, study in zip(plans, studies, strict=True)}
        progress: list[Progress] = ["open" if name in planned else "foreign" for name in names]
        outcome: Outcome | None = None
        while True:
            self._stop.check()
            for study, crew in stage:
                recover_dead_trials(study, crew, self._listener.note)
            standings = [
                self._standing(study, planned[name][0] if name in planned else None, known)
                for (study, _), name, known in zip(stage, names, progress, strict=True)
            ]
            trained = [each.trained for each in standings]
            turn = next_turn(standings, budget, lambda places: self._promises(planned, [names[p] for p in places]))
            if turn is None:
                break
            place, until = turn
            plan, study = planned[names[place]]
            parent = plan.name.removeprefix(MODULAR_PREFIX)
            more = "" if until >= ENDLESS // 2 else f": {until - trained[place]} more, {until} architectures in all"
            self._listener.note(f"around {parent}{more}")
            others = [each for each in stage if stage_name(each[0]) != plan.name]
            outcome = self._search(
                plan,
                study,
                until,
                PartOfAStage(self._listener, sum(trained) - trained[place], budget - until),
                SharedBudget(budget, others, self._limits, self._listener.note, partial(self._alike, study)),
            )
            if outcome.failed:
                return outcome
            if self._timekeeper is not None and self._timekeeper.is_up:
                return time_up(sum(self._counted(each).trained for each, _ in stage))
            progress[place] = self._progress_after(study, outcome, until, budget)
        if outcome is not None and outcome.time_up:
            return time_up(sum(self._counted(study).trained for study, _ in stage))
        return _ended(standings, outcome, budget)

    def _search(
        self, plan: StudyPlan, study: Study, until: int, listener: Listener, shared: SharedBudget | None
    ) -> Outcome:
        """Search one study until it has trained ``until`` architectures, or ``shared`` is spent."""
        beside = self._beside(study)
        study.sampler = build_sampler(
            self._settings.search,
            plan.space,
            population=plan.population,
            first=plan.first_trained,
            num_trials=len(study.get_trials(deepcopy=False)),
            worker=self._worker,
            limits=self._limits,
            other_trials=beside.trials,
            count=self._count,
            earlier=lambda: [*self._earlier(), *observations_of(beside.trained_otherwise(), task=OTHER_RECIPE)],
            time_gate=self._time_gate,
            worth_timing=self._worth_timing,
            drawn=1.0 if plan.name == STRUCTURAL else DRAWN_SHARE,
            fits=(lambda _: True) if self._timekeeper is None else self._timekeeper.fits,
        )
        crew = open_crew(study, self._folder)
        evaluator = self._evaluator(plan, crew, beside, listener)
        stage = Stage(
            space=plan.space,
            baselines=plan.baselines,
            first=plan.first,
            population=plan.first_trained,
            other_trials=beside.trials,
            shared=shared,
        )
        with crew.registered():
            return search(
                study,
                stage,
                evaluator,
                budget=until,
                crew=crew,
                listener=listener,
                stop=self._stop,
                limits=self._limits,
                after_trial=evaluator.tidy,
                timekeeper=self._timekeeper,
            )

    def _standing(self, study: Study, plan: StudyPlan | None, progress: Progress) -> Standing:
        records = read_records(study)
        known = known_results(records, self._limits, self._beside(study).trials())
        running = running_of(records, known)
        return Standing(
            trained=num_trained(records),
            running=len(running),
            interrupted=len(self._interrupted(study, records, {*known, *running})),
            first=0 if plan is None else plan.first_trained,
            population=1 if plan is None else plan.population,
            progress=progress,
        )

    def _interrupted(self, study: Study, records: Sequence[TrialRecord], taken: Container[str | None]) -> set[str]:
        """Return the architectures whose training goes on at the next turn of ``study``, if there is time for them.

        Args:
            study: The study.
            records: Its trials.
            taken: Architectures that it knows, or that are being trained.
        """
        archs = {r.arch for r in records if r.reason == INTERRUPTED and r.arch is not None and r.arch not in taken}
        if archs:  # else the other studies need not be read
            others = self._beside(study).trials()
            archs -= known_results(others, self._limits, records).keys()
        return {arch for arch in archs if self._timekeeper is None or self._timekeeper.fits(decode(arch))}

    def _promises(self, planned: dict[str, tuple[StudyPlan, Study]], names: Sequence[str]) -> Sequence[float] | None:
        if self._ranking is None:
            return None
        prospects = []
        for name in names:
            plan, study = planned[name]
            seed = derive_seed(self._settings.search.seed, "prospects", name, len(study.get_trials(deepcopy=False)))
            children = ChildGeneration(
                plan.space, seed=seed, limits=self._limits, other_trials=self._beside(study).trials
            )
            prospects.append(children.prospects(study))
        one = planned[names[0]][1]
        return promises(self._ranking, prospects, [*read_records(one), *self._beside(one).trials()])

    def _trained_otherwise(self) -> list[Observation]:
        """Return what stage 1 trained, if that was with another recipe than stage 2 has."""
        stage = self._folder.modular
        return observations_of(self._beside(stage[0]).trained_otherwise(), task=OTHER_RECIPE) if stage else []

    def _beside(self, study: Study) -> Beside:
        """Return the studies of the folder but ``study``."""
        others = [other for other in self._folder.studies if other.study_name != study.study_name]
        alike = [other for other in others if trained_alike(study, other)]
        return Beside(alike=alike, unlike=[other for other in others if other not in alike])

    def _alike(self, study: Study) -> list[TrialRecord]:
        """Return the trials of ``study`` and of all others that were trained alike."""
        return [*read_records(study), *self._beside(study).trials()]

    def _progress_after(self, study: Study, outcome: Outcome, until: int, budget: int) -> Progress:
        """Return the progress of a study after its turn, which ended before ``until`` only for a reason."""
        records = read_records(study)
        known = known_results(records, self._limits, self._beside(study).trials())
        running = len(running_of(records, known))
        taken = num_trained(records) + running
        everywhere = sum(each.trained + each.running for each in map(self._counted, self._folder.modular))
        if taken >= until or everywhere >= budget:
            return "open"
        if not outcome.waits_for_others:
            return "exhausted"
        return "busy" if running else "open"  # what it waited for has ended meanwhile

    def _counted(self, study: Study) -> Standing:
        return self._standing(study, None, "open")


def _ended(standings: Sequence[Standing], outcome: Outcome | None, budget: int) -> Outcome:
    trained, running = sum(each.trained for each in standings), sum(each.running for each in standings)
    if trained >= budget:
        around = f"{len(standings)} {plural(len(standings), 'structure')}"
        reason = f"budget reached: {trained} of {budget} architectures are trained, around {around}"
        return Outcome(reason=reason, failed=False, trained=trained)
    if outcome is not None and trained + running < budget and not outcome.waits_for_others:
        return outcome
    reason = f"other workers have the rest of the work: {running} being trained"
    return Outcome(reason=reason, failed=False, trained=trained, waits_for_others=True)


def _records_of(studies: Sequence[Study]) -> list[TrialRecord]:
    return [record for study in studies for record in read_records(study)]
