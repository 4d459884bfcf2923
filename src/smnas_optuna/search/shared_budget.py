"""A budget that several studies have together, spent to the training by any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from optuna.study import Study

from smnas_optuna.search.outcome import Outcome
from smnas_optuna.study.forms import is_arch
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import study_id
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.settled import known_results, num_trained
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.recovery import recover_dead_trials


def running_of(records: Sequence[TrialRecord], settled: Container[str]) -> list[str | None]:
    """Return the architectures that are being trained; None for each that is being sampled.

    What is settled is only about to be answered.
    """
    return [r.arch for r in records if r.state == "running" and (r.arch is None or r.arch not in settled)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """Claims of all studies of a stage, and what their other studies had trained just after they were read.

    Attributes:
        total: The budget.
        own: Number of the study that is searched.
        in_order: (number of the study, architecture) of each claim, the oldest first.
        trained: Number of architectures that the other studies have trained.
        settled: Known architectures of each of the other studies, by its number.
    """

    total: int
    own: int
    in_order: Sequence[tuple[int, str]]
    trained: int
    settled: Mapping[int, Container[str]]

    def leave(self, arch: str, records: Sequence[TrialRecord], settled: Container[str]) -> bool:
        """Return whether the budget has a training left for this worker's claim on ``arch``; older claims come first.

        Args:
            arch: An architecture that was claimed before the claims were read.
            records: Trials of the study that is searched, read after the claims.
            settled: Its known architectures.
        """
        known = {**self.settled, self.own: settled}
        before = self.in_order[: self.in_order.index((self.own, arch))]
        claimed = sum(each not in known[number] for number, each in before)
        return num_trained(records) + self.trained + claimed < self.total


class SharedBudget:
    """The budget of all studies of a stage together, as the search of one of them sees it.

    Args:
        total: Number of architectures to train in all studies together, earlier runs included.
        others: The other studies, each with its workers.
        limits: Limits in force.
        note: Receives a line for each trial of a dead worker.
        alike: Returns the trials of all studies of the folder that were trained alike.
    """

    def __init__(
        self,
        total: int,
        others: Sequence[tuple[Study, Crew]],
        limits: Limits,
        note: Callable[[str], None],
        alike: Callable[[], Sequence[TrialRecord]],
    ) -> None:
        self._total, self._others, self._alike = total, others, alike
        self._limits, self._note = limits, note

    def recover(self) -> None:
        """Recover from dead workers in the other studies, whose claims would hold a part of the budget for ever."""
        for study, crew in self._others:
            recover_dead_trials(study, crew, self._note)

    def stop_reason(self, records: Sequence[TrialRecord], settled: Container[str]) -> Outcome | None:
        """Return how the search of a study ends because all of the budget is spent or being spent; else None.

        Args:
            records: All trials of the study.
            settled: Its known architectures.
        """
        everyone = [read_records(study) for study, _ in self._others]
        trained = num_trained(records) + sum(map(num_trained, everyone))
        running = len(running_of(records, settled))
        running += sum(
            len(running_of(each, known)) for each, known in zip(everyone, self._known(everyone), strict=True)
        )
        if trained + running < self._total:
            return None
        if trained >= self._total:
            reason = f"budget reached: {trained} of {self._total} architectures are trained"
            return Outcome(reason=reason, failed=False, trained=num_trained(records))
        reason = f"other workers have the rest of the work: {running} being trained"
        return Outcome(reason=reason, failed=False, trained=num_trained(records), waits_for_others=True)

    def claims(self, crew: Crew) -> Claims:
        """Return the claims of all studies; the claims are read first, so that nothing that ends meanwhile is missed.

        Args:
            crew: Workers of the study that is searched.
        """
        numbers = [study_id(study) for study, _ in self._others]
        in_order = [(number, claim) for number, claim in crew.claims_of([crew.study_id, *numbers]) if is_arch(claim)]
        everyone = [read_records(study) for study, _ in self._others]
        return Claims(
            total=self._total,
            own=crew.study_id,
            in_order=in_order,
            trained=sum(map(num_trained, everyone)),
            settled=dict(zip(numbers, self._known(everyone), strict=True)),
        )

    def _known(self, everyone: Sequence[Sequence[TrialRecord]]) -> list[Mapping[str, TrialRecord]]:
        alike = self._alike()
        return [known_results(each, self._limits, alike) for each in everyone]
