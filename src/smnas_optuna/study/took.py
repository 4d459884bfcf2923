"""What a training of the search took, by the seconds that its trial has stored. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from smnas_optuna.study.record import TrialRecord

Span = tuple[datetime, datetime]


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
