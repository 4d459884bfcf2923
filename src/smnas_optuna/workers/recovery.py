"""Recovery from dead workers: their running trials are stored as failed, and their claims are released."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from smnas_optuna.study.attributes import ENQUEUED
from smnas_optuna.study.optuna_private import put_back, store_attr_of_stored
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, TrialRecord, read_record, read_records
from smnas_optuna.workers.crew import Crew

KILLS_WITHOUT_PROGRESS = 2
"""An architecture is given up after this many processes died with it before they finished an epoch. An attempt that
stored an epoch does not count: a large network on a machine that restarts every night finishes in the end."""


def recover_dead_trials(study: Study, crew: Crew, note: Callable[[str], None]) -> None:
    """Store the running trials of dead workers as interrupted, or as killed twice if this is the second time.

    An enqueued trial whose architecture was not read yet waits again. If a worker ended in order but could not store
    that, as on a full disk, its architecture is not at fault.

    Args:
        study: The study.
        crew: Its workers, as one of them sees the others.
        note: Receives a line for each trial that was recovered.
    """
    for worker in sorted(owners(read_records(study), crew) - {crew.me}):
        with crew.clean_up_after(worker) as death:
            if death is None:
                continue
            for dead in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if (read_record(dead).worker or "") == worker:
                    _recover(study, dead, note, killed=death == "died")
            crew.release_all_of(worker)


def owners(records: Sequence[TrialRecord], crew: Crew) -> set[str]:
    """Return the workers, alive or not, that have a running trial or a claim; "" has the trials that name none."""
    return {record.worker or "" for record in records if record.state == "running"} | set(crew.claims().values())


def _recover(study: Study, dead: FrozenTrial, note: Callable[[str], None], *, killed: bool) -> None:
    record = replace(read_record(dead), state="failed", killed=killed)
    end = "its process died" if killed else "its end could not be stored"
    if record.arch is None and record.origin == ENQUEUED:
        put_back(study, dead.number)
        note(f"trial {dead.number} (enqueued): {end}; it waits again")
        return
    fruitless = sum(earlier.fruitless and earlier.arch == record.arch for earlier in read_records(study))
    given_up = record.arch is not None and record.fruitless and fruitless + 1 >= KILLS_WITHOUT_PROGRESS
    reason = KILLED_TWICE if given_up else INTERRUPTED
    for name, value in {"reason": reason, "killed": killed}.items():
        store_attr_of_stored(study, dead, name, value)
    study.tell(dead.number, state=TrialState.FAIL, skip_if_finished=True)
    note(f"trial {dead.number} ({record.arch or 'no architecture yet'}): {end}; {reason}")
