from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.launch import Launch
from smnas_optuna.workers.supervisor import (
    DEATHS_IN_A_ROW,
    HOLDER,
    LOCK,
    RESTART,
    Supervisor,
    supervising,
)

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
slot, lead, folder = int(sys.argv[1]), sys.argv[2] == "True", Path(sys.argv[3])
with (folder / "starts").open("a") as file:
    file.write(f"{slot}{'L' if lead else ''} ")
starts = (folder / "starts").read_text().split()
"""
READY = "os.write(0, b'r')\n"


class Run:
    """A supervisor of workers that run ``code``."""

    def __init__(self, folder: Path, code: str, count: int, progress: Callable[[], int] = lambda: 0) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.stop = StopRequest()

        def launch(slot: int, lead: bool) -> Launch:
            command = [sys.executable, "-c", PRELUDE + code, str(slot), str(lead), str(folder)]
            return Launch(command=command, environment=os.environ)

        self.supervisor = Supervisor(launch, count, progress=progress, note=self.tell, stop=self.stop)

    def tell(self, line: str) -> None:
        self.notes.append(line)
        with (self.folder / "notes").open("a") as file:
            file.write(f"{line}\n")

    @property
    def starts(self) -> list[str]:
        return (self.folder / "starts").read_text().split()


def test_the_others_start_when_the_first_is_ready(tmp_path: Path) -> None:
    run = Run(tmp_path, "if slot == 0:\n    time.sleep(.3)\n    (folder / 'made').touch()\n    " + READY +
              "else:\n    assert (folder / 'made').exists()", 3)  # fmt: skip

    assert run.supervisor.run() == 0
    assert run.starts[0] == "0L"
    assert sorted(run.starts[1:]) == ["1", "2"]


def test_nobody_else_starts_when_the_first_fails(tmp_path: Path) -> None:
    run = Run(tmp_path, "sys.exit(3)", 2)

    assert run.supervisor.run() == 3
    assert run.starts == ["0L"]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was stopped by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was stopped by SIGSEGV"),
        (f"sys.exit({RESTART})", "gave its device up"),
        ("sys.exit(128 + signal.SIGTERM)", "was stopped by SIGTERM"),
    ],
)
def test_a_worker_that_dies_is_replaced_and_leads_only_if_it_was_not_ready(tmp_path: Path, end: str, said: str) -> None:
    early = Run(tmp_path, f"if len(starts) == 1:\n    {end}", 1)
    assert early.supervisor.run() == 0
    assert early.starts == ["0L", "0L"]
    assert early.notes == [f"worker 0 {said}; a new one takes its place"]

    (tmp_path / "starts").unlink()
    late = Run(tmp_path, f"{READY}time.sleep(.5)\nif len(starts) == 1:\n    {end}", 1)
    assert late.supervisor.run() == 0
    assert late.starts == ["0L", "0"]


def test_workers_that_die_without_progress_are_given_up(tmp_path: Path) -> None:
    run = Run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", 1)

    with pytest.raises(StudyError) as caught:
        run.supervisor.run()

    assert f"{DEATHS_IN_A_ROW} workers in a row died without any progress; the last one was stopped by SIGKILL" in str(
        caught.value
    )
    assert len(run.starts) == DEATHS_IN_A_ROW


def test_workers_that_die_with_progress_are_replaced_for_ever(tmp_path: Path) -> None:
    deaths = 2 * DEATHS_IN_A_ROW
    code = f"if len(starts) <= {deaths}:\n    os.kill(os.getpid(), signal.SIGKILL)"
    run = Run(tmp_path, code, 1, progress=lambda: len(run.starts) // 3 if (tmp_path / "starts").exists() else 0)

    assert run.supervisor.run() == 0
    assert len(run.starts) == deaths + 1


def test_a_failure_of_one_ends_the_others_in_order(tmp_path: Path) -> None:
    code = """
if slot == 0:
    os.write(0, b'r')
    signal.signal(signal.SIGTERM, lambda *_: ((folder / 'stored').touch(), sys.exit(0)))
    (folder / 'listening').touch()
    time.sleep(60)
while not (folder / 'listening').exists():
    time.sleep(.05)
sys.exit(1)
"""
    assert Run(tmp_path, code, 2).supervisor.run() == 1
    assert (tmp_path / "stored").exists()


def run_in_process(folder: Path, code: str) -> subprocess.Popen[str]:
    """A supervisor of two workers, which print their number and then run ``code``."""
    script = f"""
import sys
from pathlib import Path
from smnas_optuna.workers.interrupt import Interrupted
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.workers.test_supervisor import READY, Run
run = Run(Path({str(folder)!r}), READY + {code!r}, 2)
with run.stop.listening():
    try:
        sys.exit(run.supervisor.run())
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.signal_number)
"""
    process = subprocess.Popen([sys.executable, "-c", script], text=True)
    wait_for(lambda: len(list(folder.glob("pid-*"))) == 2)
    return process


TELL = "(folder / f'pid-{slot}').write_text(str(os.getpid()))\n"


def pids(folder: Path) -> list[int]:
    wait_for(lambda: all(file.read_text() for file in folder.glob("pid-*")))
    return [int(file.read_text()) for file in sorted(folder.glob("pid-*"))]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    stored = "signal.signal(signal.SIGTERM, lambda *_: ((folder / f'stored-{slot}').touch(), sys.exit(143)))\n"
    process = run_in_process(tmp_path, stored + TELL + "time.sleep(60)")

    process.send_signal(number)

    assert process.wait(timeout=20) == 128 + number
    assert len(list(tmp_path.glob("stored-*"))) == 2


@pytest.mark.slow
def test_a_second_signal_ends_workers_that_do_not_listen(tmp_path: Path) -> None:
    process = run_in_process(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + TELL + "time.sleep(60)")
    workers = pids(tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert all(map(is_running, workers))

    process.send_signal(signal.SIGINT)

    process.wait(timeout=20)
    assert not any(map(is_running, workers))


def test_a_stopped_worker_is_told_of_and_ends_with_its_search(tmp_path: Path) -> None:
    stored = "signal.signal(signal.SIGTERM, lambda *_: ((folder / f'stored-{slot}').touch(), sys.exit(143)))\n"
    process = run_in_process(tmp_path, stored + TELL + "time.sleep(60)")
    workers = pids(tmp_path)
    try:
        os.kill(workers[1], signal.SIGSTOP)
        wait_for(lambda: (tmp_path / "notes").exists())

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    finally:
        for pid in filter(is_running, workers):
            os.kill(pid, signal.SIGKILL)
    assert len(list(tmp_path.glob("stored-*"))) == 2
    assert (tmp_path / "notes").read_text() == (
        f"worker 1 is stopped, and keeps its detector; kill -CONT {workers[1]} lets it go on\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["it stops when asked", "it never asks"])
def test_a_worker_ends_when_its_supervisor_is_gone(tmp_path: Path, busy: bool) -> None:
    asks = "" if busy else "stop.check(); "
    code = (
        "from smnas_optuna.workers.interrupt import StopRequest\n"
        "from smnas_optuna.workers.supervisor import end_with_supervisor\n"
        f"stop = StopRequest(); end_with_supervisor(stop)\n{TELL}"
        f"try:\n    while True: {asks}time.sleep(.05)\n"
        "finally:\n    (folder / f'in-order-{slot}').touch()"
    )
    process = run_in_process(tmp_path, code)
    workers = pids(tmp_path)

    process.kill()
    process.wait()

    wait_for(lambda: not any(map(is_running, workers)))
    assert len(list(tmp_path.glob("in-order-*"))) == (0 if busy else 2)


def test_there_is_one_supervisor_at_a_time(tmp_path: Path) -> None:
    with supervising(tmp_path), pytest.raises(StudyError) as caught, supervising(tmp_path):
        pass
    assert f"{tmp_path}: another search is running here (process {os.getpid()})" in str(caught.value)
    assert f"`smnas worker {tmp_path}` joins it" in str(caught.value)
    with supervising(tmp_path):
        pass


def test_what_is_linked_to_from_the_names_of_its_files_is_left(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / HOLDER).symlink_to("mine")
    with supervising(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text()) == {"pid": os.getpid()}
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).symlink_to("mine")
    with pytest.raises(StudyError, match=r"study\.lock is a link to mine"), supervising(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("content", [None, "", "[]", '{"pid": "7"}', '{"pid": 1' + "0" * 5000 + "}", "[" * 10_000])
def test_a_holder_file_is_no_more_than_a_hint(tmp_path: Path, content: str | None) -> None:
    with supervising(tmp_path):
        (tmp_path / HOLDER).unlink()
        if content is None:
            os.mkfifo(tmp_path / HOLDER)
        else:
            (tmp_path / HOLDER).write_text(content)
        with pytest.raises(StudyError) as caught, supervising(tmp_path):
            pass
    assert "another search is running here (its process is just starting or ending)" in str(caught.value)


def test_a_stop_before_the_start_is_heard(tmp_path: Path) -> None:
    run = Run(tmp_path, "time.sleep(60)", 1)
    run.stop.ask(signal.SIGTERM)
    with pytest.raises(Interrupted):
        run.supervisor.run()
