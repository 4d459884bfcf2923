"""A baton: of several threads that take turns, the one that has it works, and the others wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from smnas_optuna.workers.measurement_lock import MeasurementLock


class Baton:
    """Lets one of several threads work at a time, as if there was one.

    A thread passes the baton on only where it waits for something far away. So nothing that a search does between two
    waits sees another thread's work half done, and none of it needs a lock of its own.

    Args:
        measurement_lock: Of this process: while all its threads wait, it is not at work.
    """

    def __init__(self, measurement_lock: MeasurementLock) -> None:
        self._lock, self._measurement_lock = threading.Lock(), measurement_lock

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the baton while the body runs."""
        with self._lock:
            yield

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Let the others work while the body runs; it touches nothing that they do."""
        with self._measurement_lock.away():
            self._lock.release()
            try:
                yield
            finally:
                self._lock.acquire()
