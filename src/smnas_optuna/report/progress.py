"""A search's progress on a console: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from smnas_optuna.duration import format_seconds
from smnas_optuna.report.tables import latency_text
from smnas_optuna.report.uncertainty import in_brackets, interval_of
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.record import TrialRecord

if TYPE_CHECKING:
    from smnas_optuna.engine.train import EpochReport

PHASES = {
    "load": "loading images",
    "draw": "drawing images",
    "train": "training",
    "evaluate": "evaluating",
    "latency": "timing",
    "predict": "detecting",
}


class ConsoleListener(Listener):
    """Progress of a search on ``console``; a context manager, which leaves the terminal in order.

    On a terminal: a bar for the running phase and one for the budget, with the loss and the time left. Elsewhere: a
    line for each epoch and two for each trial, without control codes, written at once.

    Args:
        console: Shows the progress.
        each: Word for a trial.
        all: Word for the whole search.
        workers: Number of workers that share the search, this one included.
        deadline: End of a budget in hours: its share that is spent and its end by the clock take the place of the
            number of trials and of the time left.
    """

    def __init__(
        self,
        console: Console,
        *,
        each: str = "trial",
        all: str = "search",
        workers: int = 1,
        deadline: Deadline | None = None,
    ) -> None:
        self._console, self._each, self._all, self._deadline = console, each, all, deadline
        self._estimate = TimeLeft(workers)
        self._bars = _Bars(console, each, all) if console.is_interactive else None
        self._number = 0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def note(self, text: str) -> None:
        """Print the note on a line of its own."""
        self._line(text)

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """Print the architecture that comes next, and start its bars."""
        self._number = number
        self._estimate.start(done, budget)
        self._line(f"{self._each} {number} ({why}; {self._done(done, budget)}): {arch}")
        if self._bars is not None:
            self._bars.start_trial(number, *self._share(done, budget))
            self._bars.set_left(self._left_of_all())

    def step(self, phase: str, done: int, total: int) -> None:
        """Move the bar of the running phase; plain lines are printed for epochs only."""
        if self._bars is not None:
            self._bars.step(PHASES.get(phase, phase), done, total)

    def epoch(self, report: EpochReport) -> None:
        """Show the loss, and the time left of this trial and of the search."""
        self._estimate.epoch(report)
        loss = f"loss {report.loss:.4g}" + (f", skipped steps: {report.skipped_steps}" if report.skipped_steps else "")
        of_trial = self._estimate.of_trial()
        rest = (
            _left(of_trial) if of_trial is not None or report.epoch < report.epochs else "evaluation and latency left"
        )
        left = f"{self._each} {rest}, {self._all} {self._left_of_all()}"
        if self._bars is not None:
            self._bars.set_loss(f"epoch {report.epoch}/{report.epochs}, {loss}, {rest}")
            self._bars.set_left(self._left_of_all())
        else:
            took = format_seconds(report.seconds)
            self._line(f"{self._each} {self._number} epoch {report.epoch}/{report.epochs}: {loss}, took {took}; {left}")

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """Print the outcome of the trial, and the time left of the search."""
        self._estimate.end(done, budget, seconds, trained=record.trained)
        left = "" if self._deadline is not None or done >= budget else f", {self._all} {self._left_of_all()}"
        self._line(
            f"{self._each} {record.number}: {_outcome(record, on_front)}, took {format_seconds(seconds)}; "
            f"{self._done(done, budget)}{left}"
        )
        if self._bars is not None:
            self._bars.end_trial(*self._share(done, budget))
            self._bars.set_left(self._left_of_all())

    def _done(self, done: int, budget: int) -> str:
        """Return in words what is done: of a budget in hours the trials, the share, and the end by the clock."""
        if self._deadline is None:
            return f"{done} of {budget} done"
        return f"{done} done, {self._deadline.in_words(time.time())}"

    def _share(self, done: int, budget: int) -> tuple[int, int]:
        """Return what is done and all that is to be done, as a bar shows it."""
        return (done, budget) if self._deadline is None else (round(100 * self._deadline.share_done(time.time())), 100)

    def _left_of_all(self) -> str:
        if self._deadline is None:
            return _left(self._estimate.of_search())
        return self._deadline.in_words(time.time())

    def _line(self, text: str) -> None:
        # soft_wrap: a pipe has no width to wrap at. A note is one line, whatever an error message inside it holds.
        self._console.print(" ".join(text.split("\n")), markup=False, highlight=False, soft_wrap=True)


class TrainingListener(ConsoleListener):
    """Progress of a single training, which has no number and is no part of a search."""

    def epoch(self, report: EpochReport) -> None:
        """Show the loss, and the time left before the last epoch."""
        self._estimate.epoch(report)
        done = f"epoch {report.epoch}/{report.epochs}"
        loss = f"loss {report.loss:.4g}" + (f", skipped steps: {report.skipped_steps}" if report.skipped_steps else "")
        left = "evaluation and latency are left" if report.epoch == report.epochs else _left(self._estimate.of_trial())
        if self._bars is not None:
            self._bars.set_loss(f"{done}, {loss}, {left}")
        else:
            self._line(f"{done}: {loss}, took {format_seconds(report.seconds)}; {left}")


class TimeLeft:
    """Estimates of the time left, from the mean durations in this run; None before the first one.

    Trials that were not trained to the end are left out: they do not tell the duration of one that is.

    Args:
        workers: Number of workers that share the remaining trials, one at a time each.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._trials: list[float] = []
        self._rests: list[float] = []  # seconds of a trained trial outside its epochs
        self._epochs: list[float] = []
        self._to_come, self._later, self._running = 0, 0, False

    def start(self, done: int, budget: int) -> None:
        """Record the start of a trial, with ``done`` of ``budget`` behind it."""
        self._epochs, self._to_come, self._running = [], 0, True
        self._later = max(0, budget - done - 1)

    def epoch(self, report: EpochReport) -> None:
        """Record an epoch of the running trial."""
        self._epochs.append(report.seconds)
        self._to_come = report.epochs - report.epoch

    def end(self, done: int, budget: int, seconds: float, *, trained: bool) -> None:
        """Record the end of the running trial after ``seconds``."""
        if trained:
            self._trials.append(seconds)
            self._rests.append(max(0.0, seconds - sum(self._epochs)))
        self._epochs, self._running = [], False
        self._later = max(0, budget - done)

    def of_trial(self) -> float | None:
        """Seconds left of the running trial: its epochs to come, and what earlier trials spent outside their epochs."""
        if not self._epochs:
            return _mean(self._trials)
        rest = _mean(self._rests)
        if self._to_come == 0:
            return rest
        return self._to_come * sum(self._epochs) / len(self._epochs) + (rest or 0.0)

    def of_search(self) -> float | None:
        """Seconds left until the budget is reached."""
        whole = _mean(self._trials)
        if whole is None and self._epochs:
            whole = sum(self._epochs) + (self.of_trial() or 0.0)  # the first trial of this run: no other is known
        if whole is None:
            return None if self._later or self._running else 0.0
        this = (self.of_trial() or 0.0) if self._running else 0.0
        return max(this, (this + self._later * whole) / self._workers)


class _Bars:
    """Two bars at the foot of a terminal: the running phase and the budget."""

    def __init__(self, console: Console, each: str, all: str) -> None:
        self._each = each
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[said]}", markup=False), console=console)
        self._phase: TaskID = self._progress.add_task("", total=None, visible=False, said="")
        self._search: TaskID = self._progress.add_task(all, total=None, visible=False, said="")
        self._trial: int | None = None
        self._shown = ""

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        # Only the lines stay on the terminal: half a bar of a stopped trial has no meaning.
        for task in (self._phase, self._search):
            self._progress.update(task, visible=False)
        self._progress.stop()

    def start_trial(self, number: int, done: int, budget: int) -> None:
        self._trial, self._shown = number, ""
        self._progress.update(self._phase, visible=False, said="")
        self._progress.update(self._search, total=budget, completed=done, visible=True)

    def step(self, phase: str, done: int, total: int) -> None:
        if phase != self._shown:
            self._shown = phase
            # Images are loaded before the first trial, too.
            description = phase if self._trial is None else f"{self._each} {self._trial}: {phase}"
            self._progress.reset(self._phase, description=description, visible=True)
        self._progress.update(self._phase, total=max(total, 1), completed=done)

    def end_trial(self, done: int, budget: int) -> None:
        self._progress.update(self._phase, visible=False, said="")
        self._progress.update(self._search, total=budget, completed=done, visible=True)

    def set_loss(self, text: str) -> None:
        self._progress.update(self._phase, said=text)

    def set_left(self, text: str) -> None:
        self._progress.update(self._search, said=text)


def _outcome(record: TrialRecord, on_front: bool) -> str:
    if record.latency_ms is None or record.ap is None:
        return record.state + (f" ({record.reason})" if record.reason else "")
    ap = f"AP (x100) {100 * record.ap:.1f}{in_brackets(interval_of(record.attrs.get('metrics')))}"
    return f"{latency_text(record)} ms, {ap}" + (", on the front" if on_front else "")


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"about {format_seconds(seconds)} left"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
