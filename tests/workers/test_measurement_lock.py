from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from smnas_optuna.workers.measurement_lock import MeasurementLock

PATIENCE_SECONDS = 5.0


def make(folder: Path, patience_seconds: float = PATIENCE_SECONDS) -> MeasurementLock:
    """What a process has: a lock belongs to the files that one opened, so that two of these are as two processes."""
    return MeasurementLock(folder, patience_seconds=patience_seconds)


class Worker:
    """Works in steps, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.steps = 0
        self._lock, self._end = make(folder), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        wait_for(lambda: self.steps > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        with self._lock.running():
            while not self._end.is_set():
                self.steps += 1
                time.sleep(0.001)
                self._lock.pause()


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_workers_pause_while_one_measures_and_go_on_after_it(tmp_path: Path) -> None:
    with Worker(tmp_path) as one, Worker(tmp_path) as other:
        with make(tmp_path).exclusive() as alone:
            before = one.steps, other.steps
            time.sleep(0.1)
            assert (one.steps, other.steps) == before
        assert alone
        wait_for(lambda: one.steps > before[0] and other.steps > before[1])


def test_a_worker_that_measures_itself_goes_on_working(tmp_path: Path) -> None:
    measurement_lock = make(tmp_path)

    with Worker(tmp_path) as other, measurement_lock.running():
        with measurement_lock.exclusive() as alone:
            measurement_lock.pause()  # as a step of the measurement may
            before = other.steps
            time.sleep(0.05)
            assert (alone, other.steps) == (True, before)
        wait_for(lambda: other.steps > before)
        measurement_lock.pause()


def test_two_measurements_take_turns(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def measure() -> None:
        with make(tmp_path).exclusive() as alone:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.03)
            inside[0] -= 1
            assert alone

    threads = [threading.Thread(target=measure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1]


def test_who_does_not_pause_in_time_is_told_of(tmp_path: Path) -> None:
    stubborn = make(tmp_path)

    with stubborn.running():
        with make(tmp_path, patience_seconds=0.05).exclusive() as alone:
            assert not alone
        stubborn.pause()  # nobody measures any more: returns at once


def test_waiting_can_be_stopped(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    stubborn, measurer = make(tmp_path), make(tmp_path)

    with stubborn.running(), pytest.raises(StopError), measurer.exclusive(stop):
        raise AssertionError
    with measurer.exclusive() as alone:  # nothing is left of the attempt
        assert alone
        with pytest.raises(StopError), stubborn.running(stop):
            raise AssertionError


def test_the_locks_end_with_their_process(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path\n"
    code += "from smnas_optuna.workers.measurement_lock import MeasurementLock\n"
    code += "with MeasurementLock(Path(sys.argv[1])).exclusive(): print('measures', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "measures\n"
        process.kill()
        process.wait()

    with make(tmp_path, patience_seconds=0.05).exclusive() as alone:
        assert alone
