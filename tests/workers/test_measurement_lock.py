from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from smnas_optuna.workers.measurement_lock import MeasurementLock
from smnas_optuna.workers.meeting_place import FOLDER

from .lock_processes import FOREIGN, MEASURES, WORKS, holding

PATIENCE_SECONDS = 5.0
SHORT_SECONDS, LONG_SECONDS = 0.6, 60.0


def make(folder: Path, patience_seconds: float = PATIENCE_SECONDS, notes: list[str] | None = None) -> MeasurementLock:
    """What a process has: a lock belongs to the files that one opened, so that two of these are as two processes."""
    note = (lambda _: None) if notes is None else notes.append
    return MeasurementLock(folder, patience_seconds=patience_seconds, note=note)


class Worker:
    """Works in steps, in a thread of its own."""

    def __init__(self, folder: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.steps = 0
        self._lock, self._end = make(folder, patience_seconds), threading.Event()
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
    deadline = time.monotonic() + 4 * PATIENCE_SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stands_still(worker: Worker) -> bool:
    before = worker.steps
    time.sleep(0.2)
    return worker.steps == before


def test_workers_pause_while_one_measures_and_go_on_after_it(tmp_path: Path) -> None:
    with Worker(tmp_path) as one, Worker(tmp_path) as other:
        with make(tmp_path).exclusive() as alone:
            before = one.steps, other.steps
            time.sleep(0.1)
            assert (one.steps, other.steps) == before
        assert alone
        wait_for(lambda: one.steps > before[0] and other.steps > before[1])


def test_locks_that_nobody_has_any_more_are_closed(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with make(tmp_path).running():
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


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
    stubborn, notes = make(tmp_path), list[str]()

    with stubborn.running():
        with make(tmp_path, 0.05, notes).exclusive() as alone:
            assert not alone
        stubborn.pause()  # nobody measures any more: returns at once

    assert notes[-1].startswith("warning: going on without process ")
    assert f"which holds {tmp_path / FOLDER}/room.lock; latencies measured meanwhile are marked" in notes[-1]


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
    with holding(MEASURES, tmp_path) as process:
        process.kill()
        process.wait()

        with make(tmp_path, patience_seconds=0.05).exclusive() as alone:
            assert alone


def test_a_stopped_process_that_measures_is_named_and_not_waited_for_for_ever(tmp_path: Path) -> None:
    notes = list[str]()
    with holding(MEASURES, tmp_path, stopped=True) as process:
        measurement_lock, begin = make(tmp_path, SHORT_SECONDS, notes), time.monotonic()

        with measurement_lock.running():
            waited = time.monotonic() - begin
            with measurement_lock.exclusive() as alone:
                assert not alone
            measurement_lock.pause()
        assert waited >= SHORT_SECONDS
        begin = time.monotonic()
        with make(tmp_path, LONG_SECONDS, notes).exclusive() as alone:
            assert not alone
        assert time.monotonic() - begin < LONG_SECONDS, "this process does not wait for it again"

    *_, going_on = notes
    assert going_on.startswith(f"warning: going on without process {process.pid} of ")
    assert going_on.endswith(
        f"which is stopped and holds {tmp_path / FOLDER}/turn.lock; latencies measured meanwhile are marked "
        "(alone = false)"
    )
    assert len(set(notes)) == len(notes) <= 2, "each line once"


def test_beside_a_stopped_process_workers_still_pause_for_one_another(tmp_path: Path) -> None:
    with (
        holding(MEASURES, tmp_path, stopped=True) as process,
        Worker(tmp_path, SHORT_SECONDS) as one,
        Worker(tmp_path, SHORT_SECONDS) as other,
    ):
        with make(tmp_path, SHORT_SECONDS).exclusive() as alone:
            before = one.steps, other.steps
            time.sleep(0.1)
            assert (alone, one.steps, other.steps) == (False, *before)
        wait_for(lambda: one.steps > before[0] and other.steps > before[1])

        process.kill()
        process.wait()

        with make(tmp_path).exclusive() as alone:  # at the place of all users again
            before = one.steps, other.steps
            time.sleep(0.1)
            assert (alone, one.steps, other.steps) == (True, *before)


def test_a_process_that_goes_on_is_waited_for_again(tmp_path: Path) -> None:
    with holding(MEASURES, tmp_path, stopped=True) as process, Worker(tmp_path, SHORT_SECONDS) as worker:
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: stands_still(worker))
        before = worker.steps
        process.kill()
        wait_for(lambda: worker.steps > before)


def test_a_foreign_program_that_holds_the_lock_is_named_and_not_waited_for_for_ever(tmp_path: Path) -> None:
    with make(tmp_path).running():  # makes the files
        pass
    notes = list[str]()
    with holding(FOREIGN, tmp_path) as process, make(tmp_path, 0.1, notes).exclusive() as alone:
        assert not alone

    assert notes[-1].startswith(f"warning: going on without process {process.pid} of ")
    assert f"which holds {tmp_path / FOLDER}/turn.lock; latencies" in notes[-1]


def test_a_stopped_process_at_work_is_waited_for_once(tmp_path: Path) -> None:
    notes = list[str]()
    with holding(WORKS, tmp_path, stopped=True) as process, Worker(tmp_path) as other:
        measurement_lock, begin = make(tmp_path, SHORT_SECONDS, notes), time.monotonic()

        with measurement_lock.exclusive() as alone:
            assert not alone
            before = other.steps
            time.sleep(0.1)
            assert other.steps == before, "those that run pause all the same"
        assert time.monotonic() - begin >= SHORT_SECONDS

        begin = time.monotonic()
        with make(tmp_path, LONG_SECONDS).exclusive() as alone:
            assert not alone
        assert time.monotonic() - begin < LONG_SECONDS

        process.send_signal(signal.SIGCONT)
        with make(tmp_path).exclusive() as alone:
            assert alone

    assert notes[-1].startswith(f"warning: going on without process {process.pid} of ")
    assert f"which is stopped and holds {tmp_path / FOLDER}/room.lock" in notes[-1]


def test_whoever_finds_the_files_removed_meets_the_others_at_new_ones(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        shutil.rmtree(tmp_path / FOLDER)
        with make(tmp_path).running():  # makes them anew
            pass
        before = worker.steps
        wait_for(lambda: worker.steps > before + 1)
        with make(tmp_path).exclusive() as alone:
            before = worker.steps
            time.sleep(0.1)
            assert (alone, worker.steps) == (True, before)


def test_without_any_place_to_meet_at_nobody_waits_and_measurements_are_marked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notes = list[str]()
    measurement_lock = make(tmp_path / "file", notes=notes)

    with measurement_lock.running():
        measurement_lock.pause()
        with measurement_lock.exclusive() as alone:
            assert not alone
        measurement_lock.pause()

    assert notes == [
        f"warning: {tmp_path / 'file' / FOLDER} cannot be used (Not a directory): latencies are measured beside the "
        "work of other users (smnas doctor says what to do)",
        f"warning: there is no folder for {FOLDER} (TMPDIR names one): latencies are measured beside other work, and "
        "marked (alone = false)",
    ]
