"""A trainer: a process on a node of the cluster that trains one detector at a time and says what happens.

Its calls may be repeated: an event keeps its number until its receipt is known, so that a broken connection loses none.
"""

from __future__ import annotations

import queue
import shutil
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from smnas_optuna.cluster.messages import (
    Begun,
    Done,
    Epoch,
    Errand,
    Event,
    Failed,
    Kept,
    Measured,
    Note,
    Order,
    Slow,
    Spent,
    Standing,
    Step,
)
from smnas_optuna.cluster.node import begin_session
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import SmnasError, first_line
from smnas_optuna.session.executor import Job, TooSlow, Watch
from smnas_optuna.session.in_process import InProcess
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.folder import CHECKPOINT_FILE
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

WAIT_S = 5.0
"""Longest time that :meth:`Trainer.events` waits for an event."""
STEP_EVERY_S = 1.0
"""Shortest time between two reports of progress."""
_UNEXPECTED = "look at the log of the node, and run the same command again"


class Trainer:
    """Trains on a node; its process is an actor of Ray.

    Args:
        errand: What all trainings have in common.
        data: Folder of the data on this node.
        threads: CPU threads to train with; None on a GPU.
    """

    def __init__(self, errand: Errand, data: Path, threads: int | None) -> None:
        self._stop = StopRequest()
        self._events = _Events()
        self._decisions: queue.Queue[int] = queue.Queue()
        self._name = ""
        self._session: Session = begin_session(errand, data, threads, self._stop)

    def begin(self, name: str, order: Order, checkpoint: bytes | None) -> None:
        """Begin a training, from where ``checkpoint`` stopped; do nothing if that of this name has begun.

        The one before must have ended.
        """
        if name == self._name:
            return
        self._name, self._stop = name, StopRequest()
        self._events, self._decisions = _Events(), queue.Queue()
        threading.Thread(target=self._run, args=(order, checkpoint), name="training", daemon=True).start()

    def events(self, after: int) -> list[tuple[int, Event]]:
        """Return the events with a number above ``after``, in order; wait for one, but not for ever.

        Those up to ``after`` are forgotten.
        """
        return self._events.after(after, WAIT_S)

    def decide(self, rung: int) -> None:
        """Let a training that waits at a rung continue."""
        self._decisions.put(rung)

    def stop(self) -> None:
        """Stop the training at its next step; its checkpoint is the last event."""
        self._stop.ask(signal.SIGTERM)

    def _run(self, order: Order, checkpoint: bytes | None) -> None:
        folder = self._session.folder.path / "orders" / uuid.uuid4().hex
        try:
            self._events.add(self._result(order, checkpoint, folder / CHECKPOINT_FILE))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _result(self, order: Order, checkpoint: bytes | None, file: Path) -> Event:
        """Train, and return the last event."""
        testbed, job = self._session.testbed, order.job(file)
        watch = _Sender(self._session, self._stop, self._events, self._decisions, job)
        try:
            if checkpoint is not None:
                job.make_folder()
                file.write_bytes(checkpoint)
            with (
                testbed.measurement_lock.running(self._stop.check),
                explained_device_faults(testbed.device),
                explained_out_of_memory(),
            ):
                trained = InProcess(testbed).train(job, watch)
        except Interrupted:
            return Kept(file.read_bytes() if file.is_file() else None)
        except TooSlow as slow:
            return Slow(slow.seconds, slow.is_estimate)
        except SmnasError as error:
            return Failed(type(error).__name__, error.message, error.fix, error.first)
        except Exception as error:  # noqa: BLE001  # told to the one who asked, as a failure of the architecture
            return Failed(type(error).__name__, first_line(error), _UNEXPECTED)
        weights = {name: tensor.cpu().contiguous() for name, tensor in trained.detector.state_dict().items()}
        return Done(save(weights), trained.metrics, trained.found, trained.skipped_steps)


class _Events:
    """Numbered events that wait for their receiver. Of several checkpoints only the last one waits."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Event]] = deque()
        self._number = 0
        self._added = threading.Condition()

    def add(self, event: Event) -> None:
        with self._added:
            self._number += 1
            if isinstance(event, Epoch):
                self._waiting = deque((number, _without_checkpoint(each)) for number, each in self._waiting)
            self._waiting.append((self._number, event))
            self._added.notify_all()

    def after(self, number: int, seconds: float) -> list[tuple[int, Event]]:
        with self._added:
            while self._waiting and self._waiting[0][0] <= number:
                self._waiting.popleft()
            self._added.wait_for(lambda: self._waiting, seconds)
            return list(self._waiting)


def _without_checkpoint(event: Event) -> Event:
    return replace(event, checkpoint=None) if isinstance(event, Epoch) else event


class _Sender(Watch):
    """Turns what happens in a training into events."""

    def __init__(
        self, session: Session, stop: StopRequest, events: _Events, decisions: queue.Queue[int], job: Job
    ) -> None:
        self._session, self._stop, self._events, self._decisions, self._job = session, stop, events, decisions, job
        self._told_at = 0.0
        self._inside = 0.0  # seconds of the phases inside the present one

    def note(self, line: str) -> None:
        self._events.add(Note(line))

    def begun(self, history: Any, device: Any) -> None:
        self._events.add(Begun(tuple(history), dict(device)))

    def step(self, phase: str, done: int, total: int) -> None:
        self._stop.check()
        self._session.testbed.measurement_lock.pause(self._stop.check)
        if time.monotonic() - self._told_at >= STEP_EVERY_S:
            self._told_at = time.monotonic()
            self._events.add(Step(phase, done, total))

    def epoch(self, report: EpochReport) -> None:
        self._events.add(Epoch(report, self._job.checkpoint.read_bytes()))

    def measured(self, epoch: int, metrics: CocoMetrics) -> None:
        self._events.add(Measured(epoch, metrics))

    def standing(self, ap_by_epoch: Any, rung: int | None) -> None:
        self._events.add(Standing(dict(ap_by_epoch), rung))
        decided = None
        while decided != rung:
            self._stop.check()
            self._session.testbed.measurement_lock.pause(self._stop.check)
            with suppress(queue.Empty):
                decided = self._decisions.get(timeout=0.1)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        inside = self._inside
        self._inside = 0.0
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self._events.add(Spent(name, whole - self._inside))
            self._inside = inside + whole
