"""What a search does with the reports of a training: it stores them with the trial, and prunes at the rungs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.search.attempt import Attempt
from smnas_optuna.session.executor import Watch
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import store_attrs


class TrialWatch(Watch):
    """Watches the training of a trial.

    Args:
        session: Its listener receives every step.
        attempt: The attempt.
        prune: Called with (epoch, AP in [0, 1]) when the training has reached a rung; may raise to prune it.
    """

    def __init__(self, session: Session, attempt: Attempt, prune: Callable[[int, float], None]) -> None:
        self._session, self._attempt, self._prune = session, attempt, prune

    def note(self, line: str) -> None:
        """Write the line to the log, and report it."""
        self._attempt.note(line)

    def begun(self, history: Sequence[EpochReport], device: Mapping[str, str | int]) -> None:
        """Store where the training stands, and which device trains."""
        trial = self._attempt.trial
        store_attrs(trial, {"epochs_before": len(history), "epochs_done": len(history)})
        if trial.user_attrs.get("device") != device:
            store_attrs(trial, {"device": dict(device)})

    def step(self, phase: str, done: int, total: int) -> None:
        """Report the step; other processes may measure meanwhile."""
        self._session.step(phase)(done, total)

    def epoch(self, report: EpochReport) -> None:
        """Store, log and report the epoch."""
        store_attrs(self._attempt.trial, {"epochs_done": report.epoch})
        self._attempt.write(
            f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.4f}, "
            f"{report.skipped_steps} steps skipped, {report.seconds:.1f} s"
        )
        self._session.listener.epoch(report)

    def measured(self, epoch: int, metrics: CocoMetrics) -> None:
        """Log and report the AP."""
        self._attempt.write(f"epoch {epoch}: AP {metrics.ap:.4f}")
        self._session.listener.evaluated(epoch, metrics.ap)

    def standing(self, ap_by_epoch: Mapping[int, float], rung: int | None) -> None:
        """Store the APs, and prune at a rung."""
        store_attrs(self._attempt.trial, {"ap_by_epoch": {str(epoch): ap for epoch, ap in ap_by_epoch.items()}})
        if rung is not None:
            self._prune(rung, ap_by_epoch[rung])

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Add the seconds of the body to those of a phase of the attempt."""
        return self._attempt.phase(name)

    def spent(self, phase: str, seconds: float) -> None:
        """Add seconds to those of a phase of the attempt."""
        self._attempt.spent(phase, seconds)
