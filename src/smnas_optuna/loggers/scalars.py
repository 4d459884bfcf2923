"""What an event says in numbers, for tools that draw numbers over steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from smnas_optuna.api.events import EpochEnded, Evaluated, Event, TrainingEnded, TrialEnded


@dataclass(frozen=True, kw_only=True, slots=True)
class Scalars:
    """Numbers of one training.

    Attributes:
        run: Name of the training: its own, or the number of its trial and its architecture, or the architecture alone.
        step: Epochs that it was trained.
        values: The numbers by name; none is NaN.
        final: True if nothing more comes.
        failed: True if the training failed.
    """

    run: str
    step: int
    values: dict[str, float]
    final: bool = False
    failed: bool = False


def scalars_of(event: Event) -> Scalars | None:
    """Return what ``event`` says in numbers; None if it says nothing."""
    match event:
        case EpochEnded():
            values = {"loss": event.loss, "seconds": event.seconds, "skipped_steps": float(event.skipped_steps)}
            return Scalars(run=_run(event.number, event.arch, event.name), step=event.epoch, values=_known(values))
        case Evaluated():
            return Scalars(
                run=_run(event.number, event.arch, event.name), step=event.epoch, values=_known({"ap": event.ap})
            )
        case TrialEnded(trial=trial) if trial.arch is not None:
            values = {name: getattr(trial, name) for name in ("ap", "ap50", "ap75", "latency_ms")}
            run = _run(trial.number, trial.arch)
            failed = trial.state == "failed"
            return Scalars(run=run, step=trial.epochs, values=_known(values), final=True, failed=failed)
        case TrainingEnded():
            run = _run(None, event.arch, event.name)
            return Scalars(run=run, step=event.epoch, values=_known({"ap": event.ap}), final=True)
    return None


def _run(number: int | None, arch: str, name: str | None = None) -> str:
    return name or (arch if number is None else f"{number:04}.{arch}")


def _known(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}
