"""The next trial of a search: begun, claimed, and checked against what others have done meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.study import Study

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.search.ends import answer_from, fail, skip
from smnas_optuna.search.enqueued import misfit, take_enqueued
from smnas_optuna.search.evolution.population import frozen, join_population
from smnas_optuna.search.stage import Queued, Stage, queued_first
from smnas_optuna.search.timekeeper import Timekeeper
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.forms import is_arch
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import asked_params, begin_trial, leave_population, put_back
from smnas_optuna.study.record import ELSEWHERE, INTERRUPTED, TOO_LONG, TrialRecord, read_records
from smnas_optuna.study.settled import known_results, num_trained
from smnas_optuna.workers.crew import Crew

Results = Mapping[str, TrialRecord]
"""Architecture -> trial that says something about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A trial to be trained.

    Attributes:
        trial: The trial, which runs.
        spec: Its architecture, which this worker has claimed.
        why: Reason for it in words, for people.
    """

    trial: optuna.Trial
    spec: DetectorSpec
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """A trial that runs, before its architecture is read.

    Attributes:
        trial: The trial.
        queued: Its architecture, which this worker has claimed; None if parameters are left to the sampler.
        enqueued: True if somebody has enqueued it.
    """

    trial: optuna.Trial
    queued: Queued | None
    enqueued: bool


class Asker:
    """Begins the trials of one study.

    Args:
        study: Study with an NSGA-II sampler.
        stage: Space and first architectures.
        crew: This worker and the others.
        budget: Number of unique architectures to train in all.
        limits: Limits in force.
        note: Receives lines for people.
        timekeeper: Knows how much time is left; None for no end.
    """

    def __init__(
        self,
        study: Study,
        stage: Stage,
        crew: Crew,
        *,
        budget: int,
        limits: Limits,
        note: Callable[[str], None],
        timekeeper: Timekeeper | None,
    ) -> None:
        self._study, self._stage, self._crew = study, stage, crew
        self._budget, self._limits, self._note, self._timekeeper = budget, limits, note, timekeeper
        self._too_long = set[int]()  # enqueued trials that wait for more time

    def results(self, records: Sequence[TrialRecord]) -> tuple[Results, Results]:
        """Return the known results of the study, and those with what other studies know."""
        others = self._stage.other_trials()
        settled = known_results(records, self._limits, others)
        return settled, {**known_results(others, self._limits, records), **settled}

    def next(self, records: Sequence[TrialRecord], known: Container[str]) -> Asked | None:
        """Return a new trial, whose architecture this worker has claimed.

        Return None if the answer is known, if others are training it or the rest of the budget, if there is no time for
        it, or if the space does not have it. The trial is then stored as such, or waits again if it was enqueued.

        Whatever ends it on the way, as the sampler may time candidates, leaves no running trial behind.
        """
        begun = self._begin(records, known)
        with self._given_back(begun):
            if (fault := self._misfit(begun)) is not None:
                self._note(f"trial {begun.trial.number} is not trained: {fault}")
                leave_population(begun.trial)
                fail(self._study, begun.trial, fault)
                return None
            spec = self._read(begun)
            arch = encode(spec)
            if begun.queued is None and not self._crew.claim(arch):
                skip(self._study, begun.trial, ELSEWHERE)
            elif self._timekeeper is not None and not self._timekeeper.accept(spec):
                self._crew.release(arch)
                if begun.enqueued:
                    self._too_long.add(begun.trial.number)
                self._put_off(begun, TOO_LONG)
            elif self._is_left(begun, arch):
                if self._timekeeper is not None:
                    self._timekeeper.begin()
                return Asked(trial=begun.trial, spec=spec, why=self._why(begun))
            else:
                self._crew.release(arch)
        return None

    def _begin(self, records: Sequence[TrialRecord], known: Container[str]) -> _Begun:
        """Begin a trial that somebody has enqueued, or with an architecture that is queued, or one to be sampled."""
        enqueued = take_enqueued(self._study, self._crew, self._too_long)
        if enqueued is not None:
            return _Begun(trial=enqueued, queued=None, enqueued=True)
        time = self._timekeeper
        waiting = (each for each in queued_first(self._stage, records, known) if time is None or time.fits(each.spec))
        queued = next((each for each in waiting if self._crew.claim(encode(each.spec))), None)
        genome = None if queued is None else self._stage.space.genome(queued.spec)
        return _Begun(trial=begin_trial(self._study, self._crew.me, genome), queued=queued, enqueued=False)

    @contextmanager
    def _given_back(self, begun: _Begun) -> Iterator[None]:
        """Store a trial as interrupted if anything ends the body; let it wait again if somebody has enqueued it."""
        try:
            yield
        except BaseException:
            self._crew.release_all_of(self._crew.me)
            if begun.enqueued:
                put_back(self._study, begun.trial.number)
            else:
                fail(self._study, begun.trial, INTERRUPTED)
            raise

    def _misfit(self, begun: _Begun) -> str | None:
        """Return why the space does not have what somebody has enqueued."""
        if not begun.enqueued:
            return None
        return misfit(self._stage.space, asked_params(frozen(self._study, begun.trial)))

    def _read(self, begun: _Begun) -> DetectorSpec:
        """Return the architecture of a trial, and store it with what is known by now."""
        trial, queued = begun.trial, begun.queued
        generation = join_population(self._study, trial)
        spec = self._stage.space.suggest(trial)
        assert queued is None or queued.spec == spec, f"{queued} was meant, {spec} was read"
        attrs = {
            "arch": encode(spec),
            "spec": dataclasses.asdict(spec),
            "generation": generation,
            "baseline": spec in self._stage.baselines,
        }
        store_attrs(trial, {**attrs, **({} if queued is None else queued.attrs)})
        return spec

    def _why(self, begun: _Begun) -> str:
        if begun.enqueued:
            return "enqueued"
        if begun.queued is not None:
            return begun.queued.why
        return f"generation {frozen(self._study, begun.trial).user_attrs['generation']}"

    def _is_left(self, begun: _Begun, arch: str) -> bool:
        """Return whether ``arch`` is to be trained; end its trial otherwise, or let it wait again if it is enqueued.

        The study is read only now: before the claim, others may just have finished the architecture, or claimed the
        rest of the budget. The claims are read first: what ends between both is then seen twice, and counts once.
        """
        claims = [claim for claim in self._crew.claims() if is_arch(claim)]
        shared = self._stage.shared
        everywhere = None if shared is None else shared.claims(self._crew)
        records = read_records(self._study)
        settled, known = self.results(records)
        if arch in known:
            answer_from(known[arch], self._study, begun.trial, arch)
        elif num_trained(records) + _claimed_before(claims, arch, settled) < self._budget and (
            everywhere is None or everywhere.leave(arch, records, settled)
        ):
            return True
        else:
            self._put_off(begun, ELSEWHERE)
        return False

    def _put_off(self, begun: _Begun, reason: str) -> None:
        """End a trial that is not trained now, or let it wait again if somebody has enqueued it."""
        if begun.enqueued:
            put_back(self._study, begun.trial.number)
        else:
            skip(self._study, begun.trial, reason)


def _claimed_before(claims: Sequence[str], arch: str, settled: Container[str]) -> int:
    """Return the number of architectures that are being trained and were claimed before ``arch``.

    The oldest claims have the rest of the budget: else each worker could begin the last architecture.
    """
    return sum(other not in settled for other in claims[: claims.index(arch)])
