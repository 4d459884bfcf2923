from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from smnas_optuna.errors import StudyError
from smnas_optuna.report.dashboard import open_dashboard, serve_dashboard

from .report_studies import FAST, add_trial, fill, new_study

REFRESH = 0.2


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return fill(new_study(f"sqlite:///{tmp_path}/study.db"))


@contextmanager
def served(study_dir: Path, said: list[str], refresh: float = REFRESH) -> Iterator[str]:
    with open_dashboard(study_dir, 0, refresh, said.append) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/studies"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, method: str = "GET") -> Any:
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers, data=b"{}")) as answer:
        return json.loads(answer.read() or "null")


def wait_for(value: Any, get: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while (got := get()) != value:
        assert time.monotonic() < deadline, f"{got!r} is not {value!r} after 10 s"
        time.sleep(0.05)


def test_a_new_trial_of_the_source_appears_soon(tmp_path: Path, study: Study) -> None:
    with served(tmp_path, []) as url:
        (summary,) = ask(url)["study_summaries"]
        assert summary["study_name"] == "structural"
        assert len(ask(f"{url}/{summary['study_id']}?after=0")["trials"]) == 9

        add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST)
        start = time.monotonic()
        wait_for(10, lambda: len(ask(f"{url}/{summary['study_id']}?after=0")["trials"]))

    assert time.monotonic() - start < 1.9  # not the 2 s and more that the dashboard itself keeps trials in memory


def test_a_deleted_study_comes_back_and_the_source_never_knew(tmp_path: Path, study: Study) -> None:
    before = (tmp_path / "study.db").read_bytes()
    with served(tmp_path, [], refresh=1.0) as url:
        ask(f"{url}/{ask(url)['study_summaries'][0]['study_id']}", "DELETE")
        assert ask(url)["study_summaries"] == []
        wait_for(1, lambda: len(ask(url)["study_summaries"]))
        assert len(ask(f"{url}/1?after=0")["trials"]) == 9

    assert (tmp_path / "study.db").read_bytes() == before
    assert len(optuna.load_study(study_name="structural", storage=f"sqlite:///{tmp_path}/study.db").trials) == 9


def test_a_source_that_cannot_be_read_for_a_while_is_told_once(tmp_path: Path, study: Study) -> None:
    said: list[str] = []
    with served(tmp_path, said) as url:
        (tmp_path / "study.db").rename(tmp_path / "away.db")
        wait_for(1, lambda: len(said))
        time.sleep(3 * REFRESH)
        assert len(ask(url)["study_summaries"]) == 1
        (tmp_path / "away.db").rename(tmp_path / "study.db")
        add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST)
        wait_for(9, lambda: len(ask(f"{url}/1?after=0")["trials"]))

    assert said == [
        f"{tmp_path}/study.db: cannot be copied now (unable to open database file); "
        "the dashboard shows what it had before"
    ]


def test_no_study_names_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        serve_dashboard(tmp_path, say=print)

    assert str(caught.value) == (
        f"{tmp_path}/study.db: there is no study yet\n  fix: start one: smnas structural {tmp_path} [--data DIR]"
    )


@pytest.mark.parametrize(
    ("content", "cause"), [(b"no database" * 100, "file is not a database"), (b"", "no such table: studies")]
)
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "study.db").write_bytes(content)

    with pytest.raises(StudyError) as caught:
        serve_dashboard(tmp_path, say=print)

    assert caught.value.message == f"{tmp_path}/study.db: cannot be read as an Optuna database ({cause})"
    assert (tmp_path / "study.db").read_bytes() == content


def test_a_port_in_use_names_another(tmp_path: Path, study: Study) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StudyError) as caught:
        serve_dashboard(tmp_path, port=taken.getsockname()[1], say=print)

    assert str(caught.value) == (
        f"port {taken_port(caught.value)} on 127.0.0.1 cannot be used (Address already in use)\n"
        "  fix: end what listens there, or name another port: --port 8081"
    )


def taken_port(error: StudyError) -> str:
    return error.message.split()[1]


def test_ctrl_c_ends_it_quietly_and_removes_the_copy(tmp_path: Path, study: Study) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # Where tests run in the background of a shell, Ctrl-C's signal is ignored, and a child inherits that.
    code = (
        "import signal, sys; from pathlib import Path; from smnas_optuna.report.dashboard import serve_dashboard;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "serve_dashboard(Path(sys.argv[1]), port=0, say=lambda text: print(text, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        copies = list(temporary.iterdir())
        url = first.split()[-1]
        assert len(ask(f"{url}api/studies")["study_summaries"]) == 1
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)

    assert first == f"dashboard of {tmp_path}: {url}\n"
    assert second == "It shows a copy, made anew every 10 s: edits there are not kept. Ctrl-C ends it.\n"
    assert len(copies) == 1
    assert (process.returncode, rest, errors, list(temporary.iterdir())) == (0, "", "", [])
