"""optuna-dashboard of a study, read-only: one click in it deletes a study, and a night's work must outlive a click."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from optuna_dashboard import wsgi
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from smnas_optuna.errors import StudyError, first_line
from smnas_optuna.report.dashboard.beside import Beside
from smnas_optuna.study.database import database_of
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import explained_disk_errors, open_storage

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from optuna.storages import RDBStorage

HOST = "127.0.0.1"
"""The dashboard asks for no password: other machines must not reach it."""
HOSTS = (HOST, "localhost")
READING = ("GET", "HEAD")


def serve_dashboard(study_dir: Path, *, port: int = 8080, say: Callable[[str], None]) -> None:
    """Serve the study in ``study_dir`` on 127.0.0.1 until Ctrl-C.

    Args:
        study_dir: Folder of the study, which cannot be changed through the dashboard.
        port: 1 to 65535.
        say: Receives each line for the user.

    Raises:
        StudyError: If there is no study, its database cannot be used, or the port is taken.
    """
    with contextlib.suppress(KeyboardInterrupt), open_dashboard(study_dir, port, say) as server:
        say(f"dashboard of {study_dir}: http://{HOST}:{server.server_port}/")
        say("It is read-only, and shows new trials within 10 s. Ctrl-C ends it.")
        server.serve_forever()


@contextlib.contextmanager
def open_dashboard(study_dir: Path, port: int, say: Callable[[str], None]) -> Iterator[WSGIServer]:
    """Yield the server of the dashboard, not serving yet; see :func:`serve_dashboard`. Port 0 takes a free one."""
    with explained_disk_errors(study_dir):
        # Like every command this refuses what is no study, and lets SQLite roll back what a killed search left.
        engine_of(StudyFolder(study_dir).load(STRUCTURAL)).dispose()
        beside = Beside(study_dir)
        storage = open_storage(study_dir, read_only=True, beside=beside)
    try:
        with _open_server(port) as server:
            server.set_app(_ReadOnlyDashboard(study_dir, storage, beside, server.server_port, say))
            yield server
    finally:
        storage.engine.dispose()


class _ReadOnlyDashboard:
    """optuna-dashboard as a WSGI application that answers requests which read, and only under its own address."""

    def __init__(
        self, study_dir: Path, storage: RDBStorage, beside: Beside, port: int, say: Callable[[str], None]
    ) -> None:
        self._app, self._storage, self._say = wsgi(storage, artifact_store=beside), storage, say
        self._study_dir, self._place = study_dir, database_of(study_dir)
        self._address = f"http://{HOST}:{port}/"
        self._failing = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        refusal = self._refusal(environ)
        if refusal is None:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        status, reason = refusal
        body = json.dumps({"reason": reason}).encode()  # as optuna-dashboard's pages show it
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        headers += [("Allow", ", ".join(READING))] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _refusal(self, environ: WSGIEnvironment) -> tuple[HTTPStatus, str] | None:
        host = environ.get("HTTP_HOST", "").lower()
        # A page of another name may have been made to resolve to 127.0.0.1 (DNS rebinding); a tunnel changes the port.
        if host.partition(":")[0] not in HOSTS:
            return HTTPStatus.FORBIDDEN, f"host {host!r} is not served here: open {self._address}"
        if environ["REQUEST_METHOD"] not in READING:
            return HTTPStatus.METHOD_NOT_ALLOWED, "this dashboard is read-only: the study was not changed"
        try:
            with self._storage.engine.connect() as connection:
                connection.execute(text("SELECT study_id FROM studies LIMIT 1"))
        except SQLAlchemyError as error:
            cause = first_line(getattr(error, "orig", error))
            reason = f"{self._place}: cannot be read now ({cause})"
            if "readonly" in cause:  # SQLite rolls nothing back without write access
                reason += f": a search was killed while writing; fix: smnas front {self._study_dir}"
            known, self._failing = self._failing, True
            if not known:
                self._say(reason)
            return HTTPStatus.SERVICE_UNAVAILABLE, reason
        self._failing = False
        return None


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
