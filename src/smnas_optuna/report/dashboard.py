"""optuna-dashboard on a copy of the study: one click in it deletes a study, and a night's work must outlive a click."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna
from optuna.storages import RDBStorage
from optuna_dashboard import wsgi
from sqlalchemy.pool import NullPool

from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.storage import DATABASE, explained_disk_errors, storage_url

HOST = "127.0.0.1"
"""The dashboard asks for no password: nobody else may reach it."""


def serve_dashboard(
    study_dir: Path, *, port: int = 8080, refresh_seconds: float = 10.0, say: Callable[[str], None]
) -> None:
    """Serve the study in ``study_dir`` on 127.0.0.1 until Ctrl-C.

    Args:
        study_dir: Of the study, which is only read.
        port: 1 to 65535.
        refresh_seconds: Time between two copies of the study; what was edited in the dashboard is gone with the next.
        say: Told each line that a person should read.

    Raises:
        StudyError: If there is no study, the file is no Optuna database, or the port is taken.
    """
    with contextlib.suppress(KeyboardInterrupt), open_dashboard(study_dir, port, refresh_seconds, say) as server:
        say(f"dashboard of {study_dir}: http://{HOST}:{server.server_port}/")
        say(f"It shows a copy, made anew every {refresh_seconds:g} s: edits there are not kept. Ctrl-C ends it.")
        server.serve_forever()


@contextlib.contextmanager
def open_dashboard(
    study_dir: Path, port: int, refresh_seconds: float, say: Callable[[str], None]
) -> Iterator[WSGIServer]:
    """A server of a copy that is refreshed while the context lasts; see :func:`serve_dashboard`. Port 0: a free one."""
    source = study_dir / DATABASE
    if storage_url(study_dir) is None and not source.is_file():
        raise StudyError(
            f"{source}: there is no study yet", fix=f"start one: smnas structural {study_dir} [--data DIR]"
        )
    with tempfile.TemporaryDirectory(prefix="smnas-dashboard-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / DATABASE
        try:
            copy_study(study_dir, copy)
            _check_study(copy)
        except sqlite3.Error as error:
            raise StudyError(
                f"{source}: cannot be read as an Optuna database ({error})",
                fix=f"if a search was killed, smnas front {study_dir} mends it; else put the right file there",
            ) from None
        storage = RDBStorage(f"sqlite:///{copy}", engine_kwargs={"poolclass": NullPool})
        with _open_server(port) as server:
            server.set_app(wsgi(storage))
            stop = threading.Event()
            refresher = threading.Thread(
                target=_refresh, args=(study_dir, copy, storage, server, refresh_seconds, stop, say), daemon=True
            )
            refresher.start()
            try:
                yield server
            finally:
                stop.set()
                refresher.join(timeout=5)


def copy_database(source: Path, copy: Path) -> None:
    """Copy a SQLite database in one piece, also while others write to it or read the copy.

    Raises:
        sqlite3.Error: If ``source`` is no database or cannot be read.
    """
    with (
        contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=60)) as reader,
        contextlib.closing(sqlite3.connect(copy, timeout=60)) as writer,
    ):
        reader.backup(writer)


def copy_study(study_dir: Path, copy: Path) -> None:
    """Copy the studies of ``study_dir`` into an SQLite database, wherever they are kept.

    Raises:
        StudyError: If there is no study, or its database cannot be used.
        sqlite3.Error: If it is a file, and cannot be read.
    """
    if storage_url(study_dir) is None:
        copy_database(study_dir / DATABASE, copy)
        return
    with explained_disk_errors(study_dir):
        studies = StudyFolder(study_dir).of_stage(None)
        fresh = copy.with_name(f"{copy.name}.new")
        fresh.unlink(missing_ok=True)
        storage = RDBStorage(f"sqlite:///{fresh}", engine_kwargs={"poolclass": NullPool})
        for study in studies:
            optuna.copy_study(from_study_name=study.study_name, from_storage=study._storage, to_storage=storage)
            engine_of(study).dispose()
    copy_database(fresh, copy)


def _refresh(
    study_dir: Path,
    copy: Path,
    storage: RDBStorage,
    server: WSGIServer,
    seconds: float,
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    failing, source = False, storage_url(study_dir) or study_dir / DATABASE
    while not stop.wait(seconds):
        try:
            copy_study(study_dir, copy)
        except (sqlite3.Error, StudyError) as error:
            if not failing:
                cause = error.message if isinstance(error, StudyError) else str(error)
                say(f"{source}: cannot be copied now ({cause}); the dashboard shows what it had before")
            failing = True
            continue
        failing = False
        # The old application holds trials in memory for up to 10 s more; a new one costs milliseconds.
        server.set_app(wsgi(storage))


def _check_study(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy)) as database:
        database.execute("SELECT study_id FROM studies LIMIT 1")


def _open_server(port: int) -> WSGIServer:
    assert 0 <= port <= 65535, port
    try:
        return _Server((HOST, port), _QuietHandler)
    except OSError as error:
        raise StudyError(
            f"port {port} on {HOST} cannot be used ({error.strerror})",
            fix="end what listens there, or name another port: --port 8081",
        ) from None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A line for each request would bury what was said at the start."""
