"""Many trainings in flight: a thread asks for each, and a cluster trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from smnas_optuna.cluster.baton import Baton
from smnas_optuna.cluster.connection import connected
from smnas_optuna.cluster.executor import OnCluster
from smnas_optuna.cluster.messages import Errand
from smnas_optuna.cluster.needs import needs_of
from smnas_optuna.cluster.node import versions_here
from smnas_optuna.cluster.nodes import Nodes
from smnas_optuna.cluster.pool import Pool
from smnas_optuna.config import STUDY_FILE
from smnas_optuna.errors import DeviceError
from smnas_optuna.real_files import read_text
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.identity import make_identity
from smnas_optuna.study.record import StageName
from smnas_optuna.workers.interrupt import Interrupted

T = TypeVar("T")
LOOK_EVERY_S = 3.0
"""Interval at which new nodes and dead ones are looked for."""


@contextmanager
def crowd(address: str, stage: StageName, count: int | None, listener: Callable[[int], Listener]) -> Iterator[Crowd]:
    """Be connected to the cluster at ``address`` while the body runs, and yield who asks it.

    The other arguments are those of :class:`Crowd`.

    Raises:
        DeviceError: See :func:`.connection.connected`.
    """
    with connected(address) as ray:
        yield Crowd(ray, stage, count, listener)


class Crowd:
    """Threads that ask for trainings on a cluster; one of them at a time works, see :class:`.baton.Baton`.

    Args:
        ray: The module, connected.
        stage: Stage whose recipe counts.
        count: Number of trainings in flight; None for one more than the cluster has places, so that none is idle while
            a detector is timed.
        listener: Makes the listener of a thread, given the number of threads.
    """

    is_here = False

    def __init__(self, ray: Any, stage: StageName, count: int | None, listener: Callable[[int], Listener]) -> None:
        self._ray, self._stage, self._count, self._listener = ray, stage, count, listener
        self._threads = list[threading.Thread]()
        self._errors = list[BaseException]()
        self._session: Session
        self._pool: Pool
        self._baton: Baton

    def equip(self, session: Session) -> Session:
        """Return the session with the cluster as its executor.

        Raises:
            DeviceError: If no node can train.
        """
        errand = errand_of(session, self._stage, make_identity(session.folder.path))
        needs = needs_of(self._ray, session.settings.ray)
        check = session.stop.check
        self._pool = Pool(self._ray, Nodes(self._ray, errand, needs, session.listener.note, check), errand, needs)
        self._pool.look()
        if not self._pool.places:
            raise DeviceError(
                f"no node of the cluster can train: a training takes {needs.cpus:g} CPUs and {needs.gpus:g} GPUs",
                fix="add nodes that have these, or say in [ray] of study.toml what a training takes",
            )
        self._baton = Baton(session.testbed.measurement_lock)
        executor = OnCluster(self._ray, self._pool, self._baton, session.testbed, check)
        self._session = replace(session, executor=executor)
        return self._session

    def run(self, one: Callable[[int, Listener], T]) -> list[T]:
        """Run ``one`` in threads until all have ended, and return the results in the order of their ends.

        Raises:
            Interrupted: If asked to stop.
            Exception: The first one that ended a thread; the other threads are stopped.
        """
        results = list[T]()

        def work(number: int, count: int) -> None:
            with self._baton.held():
                try:
                    results.append(one(number, self._listener(count)))
                except BaseException as error:  # noqa: BLE001  # raised again where the threads are waited for
                    self._fail(error)

        while not self._threads or any(thread.is_alive() for thread in self._threads):
            if not (self._errors or results):
                self._start_threads(work)
            for thread in self._threads:
                thread.join(LOOK_EVERY_S / len(self._threads))
            self._look()
        if self._errors:
            raise next((each for each in self._errors if not isinstance(each, Interrupted)), self._errors[0])
        return results

    def _start_threads(self, work: Callable[[int, int], None]) -> None:
        count = self._count or self._pool.places + 1
        for number in range(len(self._threads), count):
            self._threads.append(
                threading.Thread(target=work, args=(number, count), name=f"asker {number}", daemon=True)
            )
            self._threads[-1].start()

    def _fail(self, error: BaseException) -> None:
        """Keep an error, and stop all threads."""
        self._errors.append(error)
        if not isinstance(error, Interrupted):
            self._session.stop.ask(signal.SIGTERM)

    def _look(self) -> None:
        if self._errors:
            return
        try:
            self._pool.look()
        except Exception as error:  # noqa: BLE001  # as one of the threads, which see it, too
            self._fail(error)


def errand_of(session: Session, stage: StageName, identity: str) -> Errand:
    """Return what all trainings of a session have in common; ``identity`` is that of its study folder."""
    splits = session.testbed.splits
    return Errand(
        study=identity,
        study_file=read_text(session.folder.path / STUDY_FILE),
        stage=stage,
        content=splits.content_hash,
        test=splits.test_hash,
        data=session.data_root.absolute(),
        versions=versions_here(),
    )
