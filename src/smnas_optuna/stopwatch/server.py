"""An HTTP server that times exported detectors for a client elsewhere, one measurement at a time.

Every request carries the token (``Authorization: Bearer ...``). A body has a length, checked before it is read.

- ``GET /v1``: what this machine is, and the limits on files
- ``POST /v1/missing`` ``{"files": [sha256, ...]}``: those that the server does not have, ``{"missing": [...]}``
- ``PUT /v1/files/<sha256>``: the content of a file, detector or image
- ``POST /v1/measure`` ``{"file": sha256, "reference": sha256, "images": [sha256, ...], "conditions": {...}}``: after
  spaces, which tell that the server is alive, ``{"result": {...}}``, ``{"missing": [...]}`` or
  ``{"error": {"message": ..., "fix": ..., "kind": ...}}``
"""

from __future__ import annotations

import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from smnas_optuna.errors import DataError, SmnasError, printable
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.picture import pixels_of
from smnas_optuna.stopwatch.measure import Conditions, Pixels, as_json, describe_device, measure_files
from smnas_optuna.stopwatch.store import Store, TooLargeError, WrongContentError

ROOT, FILES, MISSING, MEASURE = "/v1", "/v1/files/", "/v1/missing", "/v1/measure"
MAX_JSON_BYTES = 2**18
MAX_IMAGES = 256
"""Images of one measurement."""
MAX_CONNECTIONS = 16
"""Open connections; further ones are closed at once."""
SILENCE_S = 60.0
"""Time after which a client that says nothing is given up."""
BUSY_S = 30.0
"""Time that a file which is sent waits for a measurement to end; its client then tells people so, and tries again."""
LINGER_S, LINGER_READS = 2.0, 64
"""How long, and how many times (of at most 64 KiB each), a client that is still sending after its answer is heard."""
BEAT_S = 5.0
"""Time between two signs of life during a measurement."""

Note = Callable[[str], None]
"""Called with a line for the person who runs the server."""


_BUSY = b'{"error": {"message": "too many connections", "fix": "wait", "kind": "DeviceError"}}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + f"Content-Length: {len(_BUSY)}\r\n\r\n".encode()
    + _BUSY
)
"""Answer to a connection beyond the most; the client comes again after a pause."""


class StopwatchServer(ThreadingHTTPServer):
    """The server; requests come in threads of their own, and one of them at a time works.

    Args:
        address: Host and port; 0 is any free port.
        token: What a client must know.
        store: Where files are kept.
        note: Called after each measurement.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], *, token: str, store: Store, note: Note = lambda _: None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.token, self.store, self.note = token.encode(), store, note
        self.turn = threading.Lock()
        """Held by the request that works: what reads a file or computes would disturb a measurement."""
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, unless there are too many."""
        if not self._connections.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(1.0)
                request.sendall(_TOO_MANY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, *_: Any) -> None:
        """Tell an error that is a fault of the server; a connection that was lost is none."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            self.note(f"a request failed: {type(error).__name__}: {quote_error(error) if error else ''}")


class _RefusedError(Exception):
    """A request that is not answered."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: StopwatchServer
    server_version, sys_version = "smnas-stopwatch", ""
    timeout = SILENCE_S

    def do_GET(self) -> None:
        with self._refusals():
            self._check_token()
            if self.path != ROOT:
                raise _RefusedError(HTTPStatus.NOT_FOUND, f"there is only GET {ROOT}")
            store = self.server.store
            limits = {"max_file_bytes": store.max_file_bytes, "max_bytes": store.max_bytes, "max_images": MAX_IMAGES}
            self._send(HTTPStatus.OK, {"device": describe_device(), **limits})

    def do_PUT(self) -> None:
        with self._refusals():
            self._check_token()
            if not self.path.startswith(FILES):
                raise _RefusedError(HTTPStatus.NOT_FOUND, f"there is only PUT {FILES}<sha256>")
            size = self._length(self.server.store.max_file_bytes)
            if not self.server.turn.acquire(timeout=BUSY_S):
                raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "another file is being timed; try again")
            try:
                self.server.store.add(self.path.removeprefix(FILES), size, self.rfile.read)
            except TooLargeError:
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the file is too large") from None
            except WrongContentError:
                raise _RefusedError(
                    HTTPStatus.BAD_REQUEST, "the file ended early, or its name is not its SHA-256"
                ) from None
            finally:
                self.server.turn.release()
            self._send(HTTPStatus.CREATED, {})

    def do_POST(self) -> None:
        with self._refusals():
            self._check_token()
            if self.path not in (MISSING, MEASURE):
                raise _RefusedError(HTTPStatus.NOT_FOUND, f"there is only POST {MISSING} and POST {MEASURE}")
            request = self._read_json()
            if self.path == MISSING:
                digests = _digests(request, "files", MAX_IMAGES + 2)
                self._send(HTTPStatus.OK, {"missing": self.server.store.missing(digests)})
            else:
                self._measure(request)

    def finish(self) -> None:
        """Read on for a moment after an answer: closing on unread bytes resets the connection, and loses the answer."""
        super().finish()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            end = time.monotonic() + LINGER_S
            for _ in range(LINGER_READS):
                self.connection.settimeout(max(end - time.monotonic(), 0.01))
                if not self.connection.recv(65536):
                    break

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing about single requests."""

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Answer what is refused, and close the connection."""
        try:
            yield
        except _RefusedError as refused:
            self._send(
                refused.status, {"error": _error(str(refused), "take the same version of smnas-optuna at both ends")}
            )
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            self._send(HTTPStatus.INSUFFICIENT_STORAGE, {"error": _error_of_machine(error)})

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, b"Bearer " + self.server.token):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")

    def _length(self, most: int) -> int:
        text = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdigit()):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "the length of the body is missing")
        if len(text) > 18 or int(text) > most:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {most:,} bytes")
        return int(text)

    def _read_json(self) -> dict[str, Any]:
        size = self._length(MAX_JSON_BYTES)
        content = self.rfile.read(size)
        try:
            request = json.loads(content) if len(content) == size else None
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "the body is no JSON object, or it is cut off")
        return request

    def _measure(self, request: dict[str, Any]) -> None:
        mine, its = (_digests({name: [request.get(name)]}, name, 1) for name in ("file", "reference"))
        images = _digests(request, "images", MAX_IMAGES)
        try:
            conditions = Conditions.of(request.get("conditions"))
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        self._send_head(HTTPStatus.OK)
        beat = _Beat(self.wfile.write)
        while not self.server.turn.acquire(timeout=BEAT_S):
            beat()
        try:
            answer = self._answer(mine[0], its[0], images, conditions, beat)
        finally:
            self.server.turn.release()
        self.wfile.write(json.dumps(answer).encode())

    def _answer(
        self, mine: str, its: str, digests: Sequence[str], conditions: Conditions, beat: Callable[[], None]
    ) -> dict[str, Any]:
        store = self.server.store
        if missing := store.missing([mine, its, *digests]):
            return {"missing": missing}
        try:
            file = DetectorFile.of(store.path(mine).read_bytes(), "the exported file")
            reference = DetectorFile.of(store.path(its).read_bytes(), "the reference's exported file")
            images = _images(store, digests, file.description.grey_bits, beat)
            with _building(beat) as step:
                stats = measure_files(file, reference, images, conditions, on_step=step)
        except SmnasError as error:
            return {"error": _error(error.message, error.fix, type(error).__name__)}
        except (MemoryError, OSError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            return {"error": _error_of_machine(error)}
        result = as_json(stats, file, reference, conditions, num_images=len(digests))
        self.server.note(
            printable(
                f"{result['arch']}: {stats.p10_ms:.3g} ms, {stats.ratio:.3f} ({stats.ratio_low:.3f} to "
                f"{stats.ratio_high:.3f}) of {result['reference']}"
            )
        )
        return {"result": result}

    def _send_head(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        with suppress(ConnectionError, TimeoutError):  # nobody waits for it any more
            self._send_head(status)
            self.wfile.write(json.dumps(answer).encode())
        self.close_connection = True


class _Beat:
    """Sends a space every few seconds; raises OSError when the client has gone."""

    def __init__(self, write: Callable[[bytes], object], now: Callable[[], float] = time.monotonic) -> None:
        self._write, self._now, self._last = write, now, now()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._now() - self._last >= BEAT_S:
                self._last = self._now()
                self._write(b" ")


@contextmanager
def _building(beat: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Beat in a thread until the first step of the measurement: TensorRT builds what runs a file for minutes.

    Returns the function to call at each step. No thread runs while something is timed.
    """
    built = threading.Event()

    def run() -> None:
        with suppress(OSError):  # the next step raises it
            while not built.wait(BEAT_S / 2):
                beat()

    thread = threading.Thread(target=run, name="beat", daemon=True)
    thread.start()

    def step() -> None:
        if not built.is_set():
            built.set()
            thread.join()
        beat()

    try:
        yield step
    finally:
        built.set()
        thread.join()


def _digests(request: dict[str, Any], name: str, most: int) -> list[str]:
    """Return the hashes under ``name``. They are compared with those of the files that are there, and nothing else."""
    digests = request.get(name)
    if not (isinstance(digests, list) and 1 <= len(digests) <= most and all(isinstance(each, str) for each in digests)):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"`{name}` must be 1 to {most} hashes")
    return digests


def _images(store: Store, digests: Sequence[str], grey_bits: int, beat: Callable[[], None]) -> Iterator[Pixels]:
    for number, digest in enumerate(digests, start=1):
        path = store.path(digest)
        try:
            yield pixels_of(path, grey_bits=grey_bits)
        except DataError as error:
            what = error.message.removeprefix(f"{path}: ")
            raise DataError(f"image {number} of {len(digests)}: {what}", fix=error.fix) from error
        beat()


def _error(message: str, fix: str, kind: str = "DeviceError") -> dict[str, str]:
    return {"message": message, "fix": fix, "kind": kind}


def _error_of_machine(error: BaseException) -> dict[str, str]:
    return _error(f"its machine has a problem: {quote_error(error)}", "free memory or disk space there")
