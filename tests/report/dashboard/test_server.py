from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.distributions import IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from sqlalchemy import make_url

from smnas_optuna.arch import decode, describe
from smnas_optuna.errors import StudyError
from smnas_optuna.report.dashboard.server import open_dashboard, serve_dashboard
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import open_storage, use_storage

from ...commands import smnas
from ...postgres_server import postgres_server
from ..report_studies import FAST, add_trial, fill, new_study

RUNNING = 9
"""Id of the running trial of a study that ``fill`` made: the last one."""
READ_ONLY = "this dashboard is read-only: the study was not changed"
EVERYTHING = {
    "study_name": "other",
    "directions": ["minimize", "maximize"],
    "version": 1,
    "body": "a note",
    "mode": "ChooseWorst",
    "candidates": [0, 1],
    "clicked": 0,
    "output_type": "note",
    "state": "fail",
    "user_attrs": {"arch": "other"},
    "filename": "a.txt",
    "file": "data:text/plain;base64,aGk=",
}
"""A body in which every writing request of optuna-dashboard finds its values."""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return fill(new_study(f"sqlite:///{tmp_path}/study.db"))


@contextmanager
def served(study_dir: Path, said: list[str]) -> Iterator[str]:
    """The address of the dashboard, without a slash."""
    with open_dashboard(study_dir, 0, said.append) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, method: str = "GET", host: str | None = None) -> Any:
    headers = {"Content-Type": "application/json"} | ({} if host is None else {"Host": host})
    body = json.dumps(EVERYTHING).encode()
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers, data=body)) as answer:
        return json.loads(answer.read() or "null")


def refused(url: str, method: str = "GET", host: str | None = None) -> tuple[int, str]:
    """The status and the reason of a request that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(url, method, host)
    with caught.value as error:
        assert (error.headers["Allow"] == "GET, HEAD") == (error.code == 405)
        return error.code, json.loads(error.read())["reason"]


def summaries(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(f"{url}/api/studies")["study_summaries"]
    return found


def num_trials(url: str) -> int:
    (summary,) = summaries(url)
    return len(ask(f"{url}/api/studies/{summary['study_id']}?after=0")["trials"])


def wait_for(value: Any, get: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while (got := get()) != value:
        assert time.monotonic() < deadline, f"{got!r} is not {value!r} after 10 s"
        time.sleep(0.05)


def writing_requests() -> list[tuple[str, str]]:
    """Method and path of all that optuna-dashboard offers beside reading, for study 1 and its running trial."""
    values = {"study": "1", "trial": str(RUNNING), "artifact": "0a-1b", "history": "0"}
    return [
        (route.method, re.sub(r"<(\w+)_id[^>]*>", lambda found: values[found[1]], route.rule))
        for route in wsgi(optuna.storages.InMemoryStorage()).routes
        if route.method not in ("GET", "HEAD")
    ]


def change(storage: RDBStorage, method: str, path: str, artifacts: Path) -> None:
    """Send a request to optuna-dashboard itself, which is given an artifact to delete, too."""
    artifacts.mkdir(exist_ok=True)
    (artifacts / "0a-1b").touch()
    body = json.dumps(EVERYTHING).encode()
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_TYPE": "application/json"}
    environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}
    setup_testing_defaults(environ)
    wsgi(storage, FileSystemArtifactStore(artifacts))(environ, lambda *_: None)


def kill_while_writing(database: Path) -> None:
    """Leave a journal that SQLite must roll back before it reads."""
    code = (
        "import os, signal, sqlite3, sys; database = sqlite3.connect(sys.argv[1]);"
        "database.execute('PRAGMA cache_size = 1'); database.execute('DELETE FROM trials');"
        "database.execute('UPDATE trial_user_attributes SET value_json = hex(zeroblob(1000))');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(database)], check=False)
    assert database.with_name("study.db-journal").exists()


def test_new_trials_of_a_running_search_appear(tmp_path: Path, study: Study) -> None:
    with served(tmp_path, []) as url:
        assert [summary["study_name"] for summary in summaries(url)] == ["structural"]
        assert num_trials(url) == 9

        add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST)
        start = time.monotonic()
        wait_for(10, lambda: num_trials(url))

    assert time.monotonic() - start < 8, "optuna-dashboard keeps trials for 2 s, of 500 and more for 10 s"


def test_each_trial_has_a_note_that_says_its_architecture(tmp_path: Path, study: Study) -> None:
    with served(tmp_path, []) as url:
        trials = ask(f"{url}/api/studies/1?after=0")["trials"]

    notes = [trial["note"]["body"] for trial in trials]
    assert notes[2].startswith(describe(decode(FAST)))
    assert all(notes)


def test_aps_at_the_rungs_are_intermediate_values(tmp_path: Path, study: Study) -> None:
    add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST, ap_by_epoch={"2": 0.25, "1": 0.125})
    with served(tmp_path, []) as url:
        trials = ask(f"{url}/api/studies/1?after=0")["trials"]

    assert trials[-1]["intermediate_values"] == [{"step": 1, "value": 0.125}, {"step": 2, "value": 0.25}]
    assert trials[2]["intermediate_values"] == []


def test_a_picture_is_served_and_one_that_does_not_exist_is_not_found(tmp_path: Path, study: Study) -> None:
    run = StudyFolder(tmp_path).make_run(FAST)
    (run / "train.log").write_text("2025-01-01T00:00:00 epoch 1/2: loss 2.5, 0 steps skipped, 1.0 s\n")
    with served(tmp_path, []) as url:
        (picture,) = ask(f"{url}/api/studies/1?after=0")["trials"][2]["artifacts"]
        with urllib.request.urlopen(f"{url}/artifacts/1/3/{picture['artifact_id']}") as answer:
            kind, content = answer.headers["Content-Type"], answer.read()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/artifacts/1/3/a-3-7")

    assert (picture["filename"], kind, content[:4]) == ("learning_curve.png", "image/png", b"\x89PNG")
    with caught.value as error:
        assert error.code == 404


def test_every_writing_request_is_refused(tmp_path: Path, study: Study) -> None:
    before, requests = (tmp_path / "study.db").read_bytes(), writing_requests()
    assert ("DELETE", "/api/studies/1") in requests
    assert len(requests) >= 20

    with served(tmp_path, []) as url:
        for method, path in [*requests, ("PATCH", "/api/studies/1"), ("OPTIONS", "/api/studies")]:
            assert refused(url + path, method) == (405, READ_ONLY), (method, path)
        assert ask(f"{url}/api/studies", "HEAD") is None
        assert num_trials(url) == 9

    assert (tmp_path / "study.db").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["study.db"]


@pytest.mark.slow
def test_the_database_refuses_what_gets_past_that(tmp_path: Path, study: Study) -> None:
    study._storage.set_study_system_attr(study._study_id, "preference:is_preferential", True)
    study._storage.set_study_system_attr(study._study_id, "preference:history0", '{"preferences": [[0, 1]]}')
    database, artifacts, changing = tmp_path / "study.db", tmp_path / "artifacts", 0
    before, read_only = database.read_bytes(), open_storage(tmp_path, read_only=True)

    for number, (method, path) in enumerate(writing_requests()):
        change(read_only, method, path, artifacts)
        assert database.read_bytes() == before, (method, path)

        (copy := tmp_path / str(number)).mkdir()
        shutil.copy(database, copy)
        change(writable := open_storage(copy), method, path, artifacts)
        writable.engine.dispose()
        changing += (copy / "study.db").read_bytes() != before

    assert changing >= 16, "all but the language model's and the upgrade change a database that lets them"


@pytest.mark.parametrize(
    "name", ["a b", "a?b#c", "100%", "%20%3F", "Süd ßé", "a&b=c+d;e", "{x}", "file:x", 'it\'s "q"']
)
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    (folder := tmp_path / name).mkdir()
    study = StudyFolder(folder).create(STRUCTURAL, RandomSampler())
    before = (folder / "study.db").read_bytes()

    with served(folder, []) as url:
        assert refused(f"{url}/api/studies/1", "DELETE") == (405, READ_ONLY)
        assert (folder / "study.db").read_bytes() == before
        add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST)
        assert num_trials(url) == 1

    assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")] == [name, f"{name}/study.db"]


def test_it_answers_to_its_own_names_only(tmp_path: Path, study: Study) -> None:
    with served(tmp_path, []) as url:
        port = make_url(url).port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", "127.0.0.1", "localhost:1"):
            assert ask(f"{url}/api/studies", host=host)["study_summaries"]
        for host in (f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "localhost.evil.example", ""):
            reason = f"host {host!r} is not served here: open {url}/"
            assert refused(f"{url}/api/studies", host=host) == (403, reason)
            assert refused(f"{url}/api/studies/1", "DELETE", host=host) == (403, reason)


def test_a_database_that_cannot_be_read_for_a_while_is_told_once(tmp_path: Path, study: Study) -> None:
    said: list[str] = []
    with served(tmp_path, said) as url:
        assert num_trials(url) == 9
        (tmp_path / "study.db").rename(tmp_path / "away.db")
        answers = [refused(url + path) for path in ("/api/studies", "/api/studies/1?after=0", "/dashboard")]
        (tmp_path / "away.db").rename(tmp_path / "study.db")
        add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST)
        wait_for(10, lambda: num_trials(url))

    assert said == [f"{tmp_path}/study.db: cannot be read now (unable to open database file)"]
    assert answers == [(503, said[0])] * 3


@pytest.mark.slow
def test_a_killed_search_leaves_a_journal(tmp_path: Path, study: Study) -> None:
    said: list[str] = []
    kill_while_writing(tmp_path / "study.db")
    with served(tmp_path, said) as url:
        assert num_trials(url) == 9, "what it wrote in part is rolled back"

        kill_while_writing(tmp_path / "study.db")
        answer = refused(f"{url}/api/studies")
        smnas("front", tmp_path)
        assert num_trials(url) == 9

    assert answer == (503, said[0])
    assert said == [
        f"{tmp_path}/study.db: cannot be read now (attempt to write a readonly database): "
        f"a search was killed while writing; fix: smnas front {tmp_path}"
    ]


def test_a_killed_process_leaves_a_write_ahead_log(tmp_path: Path, study: Study) -> None:
    code = (
        "import os, signal, sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "database.execute('PRAGMA journal_mode = wal');"
        "database.execute('INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, ?, 1)', ['new']);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    engine_of(study).dispose()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "study.db")], check=False)
    assert (tmp_path / "study.db-wal").stat().st_size > 0

    with served(tmp_path, []) as url:
        assert {"key": "new", "value": "1"} in summaries(url)[0]["user_attrs"]
        assert num_trials(url) == 9


@pytest.mark.slow
def test_a_study_in_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with ExitStack() as server:
        full_url = make_url(server.enter_context(postgres_server()).new_database())
        monkeypatch.setenv("PGPASSWORD", str(full_url.password))
        database = full_url._replace(password=None).render_as_string()
        for name in ("theirs", "mine"):
            (tmp_path / name).mkdir()
            use_storage(tmp_path / name, database)
            study = fill(StudyFolder(tmp_path / name).create(STRUCTURAL, RandomSampler()))
            server.callback(engine_of(study).dispose)

        with served(tmp_path / "mine", said) as url:
            assert [summary["study_name"] for summary in summaries(url)] == ["mine/structural"]
            assert num_trials(url) == 9
            for method, path in writing_requests():
                assert refused(url + path, method) == (405, READ_ONLY)
            check_refusals_of_postgresql(tmp_path / "mine", study)
            add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=FAST)
            wait_for(10, lambda: num_trials(url))

            server.close()
            status, reason = refused(f"{url}/api/studies")

    assert (status, said) == (503, [reason])
    assert reason.startswith(f"{database}: cannot be read now (")
    assert str(full_url.password) not in reason


def check_refusals_of_postgresql(study_dir: Path, study: Study) -> None:
    def content() -> tuple[object, ...]:
        return (study.user_attrs, study._storage.get_study_system_attrs(study._study_id), study.trials)

    before, storage, running = content(), open_storage(study_dir, read_only=True), study.trials[-1]._trial_id
    writes: list[Callable[[], object]] = [
        lambda: storage.delete_study(study._study_id),
        lambda: storage.create_new_study([StudyDirection.MINIMIZE], "other"),
        lambda: storage.set_study_user_attr(study._study_id, "key", 1),
        lambda: storage.set_study_system_attr(study._study_id, "key", 1),
        lambda: storage.create_new_trial(study._study_id),
        lambda: storage.set_trial_param(running, "key", 1.0, IntDistribution(0, 1)),
        lambda: storage.set_trial_intermediate_value(running, 1, 1.0),
        lambda: storage.set_trial_user_attr(running, "key", 1),
        lambda: storage.set_trial_system_attr(running, "key", 1),
        lambda: storage.set_trial_state_values(running, TrialState.FAIL),
    ]
    for write in writes:
        with pytest.raises(StorageInternalError) as caught:
            write()
        assert "in a read-only transaction" in str(caught.value.__cause__)
    storage.engine.dispose()
    assert content() == before


def test_no_study_names_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        serve_dashboard(tmp_path, say=print)

    assert str(caught.value) == (
        f"{tmp_path}: there is no structural study yet\n  fix: start one: smnas structural {tmp_path} [--data DIR]"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no database" * 100, "/study.db: is no study database: it does not begin like an SQLite file"),
        (b"SQLite format 3\x00" * 100, "/study.db: is no study database: file is not a database"),
        (b"", ": there is no structural study yet"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "study.db").write_bytes(content)

    with pytest.raises(StudyError) as caught:
        serve_dashboard(tmp_path, say=print)

    assert caught.value.message == f"{tmp_path}{message}"
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


def test_ctrl_c_ends_it_quietly_and_leaves_nothing(tmp_path: Path, study: Study) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # Where tests run in the background of a shell, Ctrl-C's signal is ignored, and a child inherits that.
    code = (
        "import signal, sys; from pathlib import Path;"
        "from smnas_optuna.report.dashboard.server import serve_dashboard;"
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
        url = first.split()[-1]
        assert len(ask(f"{url}api/studies")["study_summaries"]) == 1
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)

    assert first == f"dashboard of {tmp_path}: {url}\n"
    assert second == "It is read-only, and shows new trials within 10 s. Ctrl-C ends it.\n"
    assert (process.returncode, rest, errors, list(temporary.iterdir())) == (0, "", "", [])
