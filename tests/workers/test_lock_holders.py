from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

from smnas_optuna.workers.assignment import Assignment
from smnas_optuna.workers.lock_holders import UNSEEN, Holder, holders_of, named

from .lock_processes import MEASURES, holding

ME = pwd.getpwuid(os.geteuid()).pw_name


def test_the_holders_of_a_lock_are_found_in_their_state(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open() as file, path.open() as again, (tmp_path / "other").open("w") as other:
        assert holders_of(file.fileno()) == frozenset()
        fcntl.flock(other, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.flock(again, fcntl.LOCK_SH)

        (me,) = holders_of(file.fileno())

        assert (me.pid, me.stopped) == (os.getpid(), False)
        assert me.began > 0


def test_a_stopped_holder_is_another_one_until_it_goes_on(tmp_path: Path) -> None:
    with holding(MEASURES, tmp_path) as process, (tmp_path / "smnas_optuna-quiet" / "turn.lock").open() as file:
        (running,) = holders_of(file.fileno())
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        (stopped,) = holders_of(file.fileno())

    assert (running.pid, running.stopped) == (process.pid, False)
    assert stopped == Holder(pid=process.pid, began=running.began, stopped=True)


def test_a_holder_is_named_with_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", "evil\x1b[2J\u202e\n", "x" * 1000]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # before it runs its command it may have none
        said = Holder(pid=process.pid).in_words()
        process.communicate(b"\n")

    assert said.startswith(f"process {process.pid} of {ME} ({sys.executable[:20]}")
    assert said.isprintable()
    assert len(said) < 150
    assert Holder(pid=process.pid).in_words() == f"process {process.pid}", "it has ended"
    assert UNSEEN.in_words() == "a process that cannot be seen from here"


def test_the_first_of_several_holders_is_named_a_stopped_one_if_there_is_any() -> None:
    gone = [Holder(pid=2**22 + 1), Holder(pid=2**22 + 2, stopped=True), Holder(pid=2**22 + 3)]

    assert named(gone, Path("/a")) == f"process {2**22 + 2}, which is stopped and holds /a; 2 more do"
    assert named(gone[:1], Path("/a")) == f"process {2**22 + 1}, which holds /a"


def test_a_worker_of_ones_own_search_is_a_fellow(tmp_path: Path) -> None:
    (tmp_path / "smnas_optuna").mkdir()
    for name, content in (("__init__", ""), ("cli", "input()")):  # stands in for a worker that goes on working
        (tmp_path / "smnas_optuna" / f"{name}.py").write_text(content)
    ask = "import sys; from smnas_optuna.workers.lock_holders import Holder\n"
    ask += "print(*(Holder(pid=int(pid)).is_fellow for pid in sys.argv[1:]))"
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(Assignment(task="search", request={}).command(), cwd=tmp_path, stdin=pipe) as worker,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=pipe) as stranger,
    ):
        command = [sys.executable, "-c", ask, str(worker.pid), str(stranger.pid), str(os.getpid())]
        said = subprocess.run(command, stdout=pipe, text=True, check=True).stdout
        worker.communicate(b"\n")
        stranger.communicate(b"\n")

    assert said == "True False False\n"
