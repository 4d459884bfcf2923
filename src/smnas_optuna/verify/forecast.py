"""Forecast of a verification from the times that the search's own trainings took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from smnas_optuna.duration import format_seconds, shared_by
from smnas_optuna.session.workload import Workers, finish_s
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.took import Took, took
from smnas_optuna.verify.results import Key, SeedRun


def time_line(left: Sequence[Key], records: Sequence[TrialRecord], workers: Workers, *, evaluated: float) -> str | None:
    """Return the likely time of the trainings ``left`` in words; None if none is left, or nothing is known.

    Args:
        left: Trainings in the order in which they begin.
        records: All trials of the study folder.
        workers: Workers that share them.
        evaluated: Number of images that are evaluated after a training, as a multiple of the validation images.
    """
    expected = seconds_of(left, records, evaluated=evaluated)
    if expected is None:
        return None
    timed = _timed(records)
    sizes = {key[0].partition(".")[0]: timed[key[0]].images_s for key in left if key[0] in timed}
    seconds = finish_s([expected[key] for key in left], workers, once_s=sum(sizes.values()))
    shared = shared_by(workers.count)
    return f"time: about {format_seconds(seconds)} to the end{shared}, if an epoch takes as long as in the search"


def seconds_of(
    keys: Sequence[Key], records: Sequence[TrialRecord], runs: Iterable[SeedRun] = (), *, evaluated: float
) -> dict[Key, float] | None:
    """Return the seconds that each training is expected to take; None if nothing is known.

    Args:
        keys: Trainings. One that nothing is known of is expected to take as long as the others do in the mean.
        records: All trials of the study folder.
        runs: Finished trainings: another seed of the same architecture takes as long as the longest of these.
        evaluated: Number of images that are evaluated after a training, as a multiple of the validation images.
    """
    timed, again_s = _timed(records), dict[tuple[str, int], float]()
    for run in runs:
        if run.failed is None:
            again_s[run.arch, run.epochs] = max(run.seconds, again_s.get((run.arch, run.epochs), 0.0))
    known = {key: _expected_s(key, timed[key[0]], evaluated) for key in keys if key[0] in timed}
    known |= {key: again_s[key[0], key[2]] for key in keys if (key[0], key[2]) in again_s}
    if not known:
        return None
    return {key: known.get(key, fmean(known.values())) for key in keys}


def _expected_s(key: Key, each: Took, evaluated: float) -> float:
    return each.epoch_s * key[2] + each.evaluation_s * evaluated


def _timed(records: Sequence[TrialRecord]) -> dict[str, Took]:
    return {str(record.arch): each for record in records if (each := took(record, records)) is not None}
