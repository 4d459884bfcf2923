"""Forecast of a verification from the times that the search's own trainings took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from smnas_optuna.duration import format_seconds, shared_by
from smnas_optuna.session.workload import Workers, finish_s
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.verify.results import Key, SeedRun

Span = tuple[datetime, datetime]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """Seconds of a training of the search: of an epoch, of the evaluation at the end, and of loading its images."""

    epoch_s: float
    evaluation_s: float
    images_s: float


def took(record: TrialRecord, records: Sequence[TrialRecord]) -> Took | None:
    """Return the seconds of the training of ``record``, one of ``records``; None if it is not trained or timed."""
    seconds, epochs = record.attrs.get("seconds", {}), record.epochs_done - record.epochs_before
    if not record.trained or epochs <= 0 or "train" not in seconds:
        return None
    return Took(
        epoch_s=max(0.0, seconds["train"] - paused_s(record, records)) / epochs,
        evaluation_s=seconds.get("evaluate", 0.0),
        images_s=seconds.get("load", 0.0),
    )


def paused_s(record: TrialRecord, records: Sequence[TrialRecord]) -> float:
    """Return the seconds of the training of ``record`` in which other workers of its machine measured a latency.

    The search counts them as training, although it pauses then; a verification measures nothing.

    Args:
        record: A trained trial.
        records: All trials of the study folder, that one included.
    """
    span = _training(record)
    if span is None:
        return 0.0
    others = (other for other in records if other.worker != record.worker and _host(other) == _host(record))
    return sum(_overlap_s(span, measured) for other in others for measured in _measurements(other))


def _host(record: TrialRecord) -> str:
    """Return the machine in the name of a worker; see :class:`smnas_optuna.workers.crew.Crew`."""
    return (record.worker or "").rsplit("-", 2)[0]


def _training(record: TrialRecord) -> Span | None:
    """Return begin and end of the training of a trained record. Evaluation and measurement come after it."""
    seconds = record.attrs.get("seconds", {})
    if record.ended is None:
        return None
    end = record.ended - timedelta(seconds=seconds.get("evaluate", 0.0) + seconds.get("latency", 0.0))
    return end - timedelta(seconds=seconds.get("train", 0.0) + seconds.get("rungs", 0.0)), end


def _measurements(record: TrialRecord) -> Iterator[Span]:
    """Yield begin and end of the measurements of an ended trial: one at its begin, one at its end if it was trained."""
    seconds = record.attrs.get("seconds", {})
    if record.ended is None:
        return
    if "gate" in seconds:
        begin = record.ended - timedelta(seconds=sum(seconds.values()))
        yield begin, begin + timedelta(seconds=seconds["gate"])
    if "latency" in seconds:
        yield record.ended - timedelta(seconds=seconds["latency"]), record.ended


def _overlap_s(first: Span, second: Span) -> float:
    return max(0.0, (min(first[1], second[1]) - max(first[0], second[0])).total_seconds())
