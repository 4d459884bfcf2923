"""The executor of a cluster: trainings on its nodes, resumed elsewhere when a node dies."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from safetensors.torch import load

from smnas_optuna import errors
from smnas_optuna.arch import encode
from smnas_optuna.cluster.baton import Baton
from smnas_optuna.cluster.messages import (
    ENDS,
    Begun,
    Done,
    Epoch,
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
from smnas_optuna.cluster.nodes import CHECK_S
from smnas_optuna.cluster.pool import Lent, Pool
from smnas_optuna.engine.durable import write_durably
from smnas_optuna.errors import KilledError, SmnasError, first_line
from smnas_optuna.session.executor import Job, TooSlow, Trained, Watch
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.workers.interrupt import Interrupted
from smnas_optuna.workers.recovery import KILLS_WITHOUT_PROGRESS

NODE_LOST_S = 30.0
"""Time that a cluster is given to notice that a node is gone, before a death counts as that of the process alone."""
STOP_S = 20.0
"""Time that a trainer is given to finish its step and hand its checkpoint over."""
START_S = 600.0
"""Time after which a trainer that has not begun is given up for an idle one: its node may have no resources left. To
start it loads torch and reads the data, which may take minutes."""


class OnCluster:
    """Trains on the nodes of a cluster; it is called by several threads, of which one at a time has the baton.

    A checkpoint comes back after each epoch, and is written where a training here would keep it. So a training goes on
    from there when its node dies, when this process is killed, and without the cluster.

    Ray could start a task again by itself. It would begin with the arguments of the first attempt, and so without the
    epochs that are done.

    Args:
        pool: The trainers.
        baton: Passed on while a training is waited for.
        testbed: Builds the detectors that come back.
        check: Called while it waits; may raise to stop.
    """

    def __init__(self, ray: Any, pool: Pool, baton: Baton, testbed: Testbed, check: Callable[[], None]) -> None:
        self.pool, self.baton, self.testbed, self.check = pool, baton, testbed, check
        self._ray = ray

    @property
    def device(self) -> Mapping[str, str | int]:
        """See :class:`smnas_optuna.session.executor.Executor`."""
        threads = self.pool.threads
        return {"kind": "cuda"} if threads is None else {"kind": "cpu", "threads": threads}

    def train(self, job: Job, watch: Watch) -> Trained:
        """See :meth:`smnas_optuna.session.executor.Executor.train`.

        Raises:
            KilledError: If its process died twice before it had finished an epoch, while the node lived.
        """
        kills = 0
        while True:
            waits_since = time.perf_counter()
            with self.baton.passed_on():
                trainer = self.pool.take(self.check)
            training = _Training(self, trainer, job, watch)
            try:
                trained = training.run(waits_since)
            except _LostError as lost:
                kills += not (lost.with_node or training.progressed)
                watch.note(f"{encode(job.spec)}: {lost}; it goes on from its last epoch elsewhere")
                if kills >= KILLS_WITHOUT_PROGRESS:
                    raise KilledError(
                        f"{kills} processes died with it before they had finished an epoch",
                        fix="look for what kills them (memory: `dmesg` on the node)",
                    ) from None
                continue
            self.pool.give_back(trainer)
            return trained

    def wait(self, seconds: float) -> None:
        """Sleep while others have the baton."""
        with self.baton.passed_on():
            time.sleep(seconds)

    def result_of(self, trainer: Lent, method: str, arguments: tuple[Any, ...], check: Callable[[], None]) -> Any:
        """Return the result of a call of a trainer. It is repeated if the connection fails.

        Raises:
            _LostError: If the trainer died.
            _EndedError: If the call raised an exception.
        """
        exceptions, nodes = self._ray.exceptions, self.pool.nodes
        since = time.monotonic()
        while True:
            try:
                return nodes.wait(getattr(trainer.actor, method).remote(*arguments), check)
            except exceptions.ActorUnavailableError:
                gone = not nodes.is_alive(trainer.node.node_id)
                if gone or time.monotonic() - since > NODE_LOST_S:
                    raise _LostError(trainer.node.name, with_node=gone) from None
                time.sleep(CHECK_S)
            except (exceptions.RayActorError, exceptions.ActorUnschedulableError) as error:
                gone = not nodes.is_alive(trainer.node.node_id)
                if not gone and getattr(error, "actor_init_failed", False):
                    nodes.refuse(trainer.node, f"no trainer can begin there ({_cause(error)})")
                    gone = True
                raise _LostError(trainer.node.name, with_node=gone) from None
            except exceptions.RayTaskError as error:
                raise _EndedError(RuntimeError(first_line(error.cause)), broken=True) from None


class _Training:
    """One attempt at a job on one trainer."""

    def __init__(self, cluster: OnCluster, trainer: Lent, job: Job, watch: Watch) -> None:
        self._cluster, self._trainer, self._job, self._watch = cluster, trainer, job, watch
        self._number = 0
        self._is_over = False
        self.progressed = False

    def run(self, waits_since: float) -> Trained:
        """Return the result; the trainer is free again, or buried.

        Args:
            waits_since: Value of ``time.perf_counter()`` since when the training waits for a trainer.

        Raises:
            _LostError: If the trainer died.
        """
        try:
            checkpoint = self._job.checkpoint.read_bytes() if self._job.checkpoint.is_file() else None
            self._call("begin", uuid.uuid4().hex, Order.of(self._job), checkpoint, check=self._wait_for_start())
            self._watch.spent("waiting", time.perf_counter() - waits_since)
            while True:
                for event in self._next():
                    if isinstance(event, ENDS):
                        return self._end(event)
                    self._tell(event)
        except Interrupted:
            self._keep()
            raise
        except _LostError:
            self._cluster.pool.bury(self._trainer)
            raise
        except _EndedError as ended:
            if ended.broken:
                self._cluster.pool.bury(self._trainer)
            else:
                self._cluster.pool.give_back(self._trainer)
            raise ended.error from None
        except BaseException:
            self._abandon()
            raise

    def _tell(self, event: Event) -> None:
        """Report an event to who asked for the training; that may raise to end it."""
        watch = self._watch
        match event:
            case Note(line):
                watch.note(line)
            case Begun(history, device):
                watch.begun(history, {**device, "host": self._trainer.node.name})
            case Step(phase, done, total):
                watch.step(phase, done, total)
            case Epoch(report, _):
                self.progressed = True
                watch.epoch(report)
            case Measured(epoch, metrics):
                watch.measured(epoch, metrics)
            case Standing(ap_by_epoch, rung):
                watch.standing(ap_by_epoch, rung)
                if rung is not None:
                    self._call("decide", rung)
            case Spent(phase, seconds):
                watch.spent(phase, seconds)

    def _end(self, event: Event) -> Trained:
        match event:
            case Done(weights, metrics, found, skipped_steps):
                detector = self._cluster.testbed.build(self._job.spec, self._job.seed)
                detector.load_state_dict(load(weights))
                return Trained(detector=detector, metrics=metrics, found=found, skipped_steps=skipped_steps)
            case Slow(seconds, is_estimate):
                raise _EndedError(TooSlow(seconds, is_estimate=is_estimate))
            case Failed(kind, message, fix, first):
                raise _failure(kind, message, fix, self._trainer.node.name, first)
        raise AssertionError(f"{event} was not asked for")

    def _wait_for_start(self) -> Callable[[], None]:
        """Return the check of a wait for the trainer to begin."""
        cluster, since = self._cluster, time.monotonic()

        def check() -> None:
            cluster.check()
            if time.monotonic() - since > START_S and cluster.pool.has_idle:
                raise _LostError(self._trainer.node.name, with_node=True, why="has not begun on")

        return check

    def _stop(self, seconds: float = math.inf) -> None:
        """Stop the training, and take what it hands over; wait no longer than so many seconds.

        Raises:
            _LostError: If the trainer died, or does not answer in time, as one that never began.
        """
        until = time.monotonic() + seconds

        def check() -> None:
            if time.monotonic() > until:
                raise _LostError(self._trainer.node.name, with_node=False, why="does not answer on")

        self._call("stop", check=check)
        while not self._is_over:
            check()
            self._next(check=check)

    def _keep(self) -> None:
        """Stop the training, and write the checkpoint that it hands over; without, that of its last epoch is there."""
        try:
            self._stop(STOP_S)
        except (_LostError, _EndedError, OSError) as error:
            self._watch.note(f"its last steps are lost ({first_line(error)}); it goes on from its last epoch")
        finally:
            self._cluster.pool.bury(self._trainer)

    def _abandon(self) -> None:
        """End a training whose result nobody wants, so that its trainer is free for another one."""
        try:
            self._stop()
        except (_LostError, _EndedError):
            self._cluster.pool.bury(self._trainer)
        else:
            self._cluster.pool.give_back(self._trainer)

    def _next(self, check: Callable[[], None] | None = None) -> list[Event]:
        """Return the next events, of which a checkpoint is written by then: an epoch that is told is kept."""
        numbered = self._call("events", self._number, check=check)
        if numbered:
            self._number = numbered[-1][0]
        events = [event for _, event in numbered]
        self._is_over = self._is_over or any(isinstance(event, ENDS) for event in events)
        for event in events:
            if isinstance(event, Epoch | Kept) and event.checkpoint is not None:
                self._job.make_folder()
                write_durably(self._job.checkpoint, event.checkpoint)
        return events

    def _call(self, method: str, *arguments: Any, check: Callable[[], None] | None = None) -> Any:
        """Return the result of a call of the trainer, while others have the baton.

        Raises:
            _LostError: If it died.
        """
        with self._cluster.baton.passed_on():
            return self._cluster.result_of(self._trainer, method, arguments, check or self._cluster.check)


class _LostError(Exception):
    """A trainer died, or is given up.

    Args:
        host: Its machine.
        with_node: True if its whole node did, so that its training is not at fault.
        why: What its process did, with a preposition for the machine; by default it is gone with the node, or died.
    """

    def __init__(self, host: str, *, with_node: bool, why: str = "") -> None:
        gone = f"its node {host} is gone" if with_node else f"its process on {host} died"
        super().__init__(f"its process {why} {host}" if why else gone)
        self.with_node = with_node


class _EndedError(Exception):
    """A training ended with an error.

    Args:
        error: What the caller gets.
        broken: True if the trainer cannot be used any more.
    """

    def __init__(self, error: Exception, *, broken: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.broken = error, broken


def _failure(kind: str, message: str, fix: str, host: str, first: str | None = None) -> _EndedError:
    """Return the end of a training that failed on a node, with an error of the same class as there if it is ours.

    A GPU that failed is one of that node: this process goes on.
    """
    cls = getattr(errors, kind, None)
    if kind != errors.DeviceFault.__name__ and isinstance(cls, type) and issubclass(cls, SmnasError):
        return _EndedError(cls(message, first=first, fix=fix))
    return _EndedError(RuntimeError(f"{kind} on {host}: {message}"), broken=True)


def _cause(error: Exception) -> str:
    """Return the last line of what Ray says, which is that of the exception in the process there."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()
