"""A client of a stopwatch on another machine; see :mod:`smnas_optuna.stopwatch.server`."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from smnas_optuna.errors import DataError, DeviceError, FileError, OutOfMemoryError, quote
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.stopwatch.measure import Conditions
from smnas_optuna.stopwatch.protocol import RatioStats

SILENCE_S = 300.0
"""Time without a sign of life after which a connection counts as lost."""
CONNECT_S = 10.0
"""Time in which a machine accepts a connection; meanwhile nobody looks whether to stop."""
_BLOCK_BYTES = 2**20
"""Bytes that are sent at once: the time without a sign of life is that of a block, and not of a whole file."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between attempts to reach a stopwatch that was lost."""
MAX_ANSWER_BYTES = 2**20
ATTEMPTS = 3
"""Times that files are sent which the stopwatch says it lacks, before its store counts as too small."""
MAX_LOSSES = 10
"""Times that the stopwatch may be lost while it times one file, which may be what ends it."""
_KINDS = {kind.__name__: kind for kind in (FileError, DataError, OutOfMemoryError)}
_LARGEST_ACCEPTABLE = 1e9


class StopwatchClient:
    """A stopwatch on another machine, for the detectors of one study.

    Args:
        url: Of the server: ``http://host:port``.
        token: That it printed or read when it started.
        reference: Content of the exported file that all are timed against.
        images: Files of the images that they are timed on.
        note: Called once when the stopwatch is lost or busy, and when files can be sent again.
        pause: Called with seconds to wait; may raise to stop.
        on_beat: Called every few seconds while the stopwatch works; may raise to stop.

    Raises:
        DeviceError: If the URL or the token cannot be one.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        reference: bytes,
        images: Sequence[Path],
        note: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = _checked_url(url)
        if not (token.isascii() and token.isprintable() and token):
            raise DeviceError(
                "the token of the stopwatch is no printable text", fix="copy it from where it was started"
            )
        self._token = token
        self._reference = reference
        self._images = images
        self._waits_for: type[_LostError] | None = None
        self._note, self._pause, self._on_beat = note, pause, on_beat

    def describe(self) -> dict[str, Any]:
        """Return what the stopwatch says of its machine, ``device``, and the limits of its store.

        Raises:
            DeviceError: If it cannot be reached, is no stopwatch, or does not accept the token.
        """
        try:
            return self._describe()
        except _LostError as error:
            raise DeviceError(
                f"{self.url}: the stopwatch cannot be reached: {error}",
                fix="start it there: python -m smnas_optuna.stopwatch serve",
            ) from error

    def measure(self, file: bytes, conditions: Conditions) -> tuple[RatioStats, dict[str, Any]]:
        """Time an exported file; a stopwatch that is lost or busy is waited for, with pauses that grow.

        Args:
            file: Content of the exported file.
            conditions: Runtime, threads, precision and time limit.

        Returns:
            The statistics, and the whole result as JSON values; see :func:`smnas_optuna.stopwatch.measure.as_json`.

        Raises:
            DataError: If the stopwatch cannot read an image.
            DeviceError: If it does not accept the token, refuses a file, answers what no stopwatch does, or is lost
                again and again while it times this file.
            FileError: If its runtime cannot run the file.
            OutOfMemoryError: If its memory is not enough for the file.
        """
        seconds, attempts, losses = FIRST_PAUSE_S, 0, 0
        while True:
            try:
                times = False
                self._send_missing(file)
                self._tell_end()
                times = True
                answer = self._ask("POST", "/v1/measure", self._request(file, conditions))
            except _LostError as error:
                losses += times and not isinstance(error, _BusyError)
                if losses == MAX_LOSSES:
                    raise DeviceError(
                        f"{self.url}: the stopwatch was lost {losses} times while it timed one exported file: {error}",
                        fix="look at what it printed there; the file may be too much for that machine",
                    ) from error
                self._tell(error)
                self._pause(seconds)
                seconds = min(2 * seconds, LONGEST_PAUSE_S)
                continue
            if "result" in answer:
                return self._checked(answer["result"], file), answer["result"]
            attempts += 1
            if "missing" not in answer or attempts == ATTEMPTS:
                raise self._failure(answer)

    def _tell(self, error: _LostError) -> None:
        """Say what is waited for, unless that was said already."""
        if self._waits_for is not type(error):
            self._waits_for = type(error)
            self._note(f"{self.url}: the stopwatch {error.state}: {error}; waiting for it")

    def _tell_end(self) -> None:
        """Say that the waiting is over. It is once all files are there: a busy stopwatch says at once what it lacks."""
        if self._waits_for is not None:
            self._note(f"{self.url}: the stopwatch is {self._waits_for.end}")
            self._waits_for = None

    def _send_missing(self, file: bytes) -> None:
        """Send what the stopwatch lacks.

        Raises:
            _BusyError: If it does not take a file because it times another one.
            _LostError: If it does not answer.
        """
        contents = {**self._images_by_digest, _digest(self._reference): self._reference, _digest(file): file}
        answer = self._ask("POST", "/v1/missing", {"files": list(contents)})
        missing = answer.get("missing")
        if not (isinstance(missing, list) and all(isinstance(each, str) and each in contents for each in missing)):
            raise self._foreign(answer)
        if missing:
            limit = self._describe()["max_file_bytes"]
            for digest in missing:
                self._send(contents[digest], digest, limit)

    def _request(self, file: bytes, conditions: Conditions) -> dict[str, Any]:
        acceptable = min(conditions.acceptable, _LARGEST_ACCEPTABLE)  # infinity is no number of JSON
        return {
            "file": _digest(file),
            "reference": _digest(self._reference),
            "images": list(self._images_by_digest),
            "conditions": {**asdict(conditions), "acceptable": acceptable},
        }

    def _describe(self) -> dict[str, Any]:
        described = self._ask("GET", "/v1")
        if not (isinstance(described.get("device"), dict) and isinstance(described.get("max_file_bytes"), int)):
            raise self._foreign(described)
        return described

    @cached_property
    def _images_by_digest(self) -> dict[str, bytes | Path]:
        return {_digest(_content(path)): path for path in self._images}

    def _send(self, content: bytes | Path, digest: str, limit: int) -> None:
        name = quote_path(content) if isinstance(content, Path) else "an exported file"
        content = _content(content) if isinstance(content, Path) else content
        if _digest(content) != digest:
            raise DataError(
                f"{name}: the image has changed since the measurements began",
                fix="put the image back as it was, or run the command again",
            )
        if len(content) > limit:
            raise DeviceError(
                f"{self.url}: {name} has {len(content):,} bytes, and the stopwatch takes {limit:,} at most",
                fix="start it with a larger --max-gib",
            )
        self._ask("PUT", f"/v1/files/{digest}", content)

    def _ask(self, method: str, path: str, content: bytes | dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            DeviceError: If it is refused, or answered by something else than a stopwatch.
            _LostError: If there is no answer, or only a part of it.
        """
        data = json.dumps(content).encode() if isinstance(content, dict) else content
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/octet-stream",
            "Connection": "close",
            **({} if data is None else {"Content-Length": str(len(data))}),
        }
        body = None if data is None else io.BytesIO(data)
        try:
            with closing(self._connection()) as connection:
                connection.connect()
                connection.sock.settimeout(SILENCE_S)
                # What is refused is answered before all of it is sent, and then nobody reads the rest.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                if not 200 <= response.status < 300:
                    raise self._refusal(response)
                kind = response.headers.get_content_type()
                read = self._read(response)
        except (OSError, http.client.HTTPException) as error:
            raise _LostError(quote_error(error)) from error
        if kind != "application/json":
            raise self._foreign(kind)
        try:
            answer = json.loads(read)
        except (ValueError, RecursionError) as error:
            raise _LostError("the answer was cut off") from error
        if not isinstance(answer, dict):
            raise self._foreign(answer)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        """Return a new connection: without a proxy, which would get the token."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        assert parts.hostname is not None
        return kind(parts.hostname, parts.port, timeout=CONNECT_S, blocksize=_BLOCK_BYTES)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """Return the answer; it begins with spaces that come while the stopwatch works."""
        content = b""
        while len(content) <= MAX_ANSWER_BYTES and (part := response.read1(MAX_ANSWER_BYTES)):
            content = content.lstrip() + part
            self._on_beat()
        return content

    def _refusal(self, response: http.client.HTTPResponse) -> Exception:
        """Return what is raised for an answer without success; a redirection, which could lead elsewhere, is none."""
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            return DeviceError(
                f"{self.url}: the stopwatch does not accept the token",
                fix="take the token that it printed at its start",
            )
        try:
            answer = json.loads(response.read(MAX_ANSWER_BYTES))
        except (ValueError, RecursionError, OSError, http.client.HTTPException):
            answer = None
        is_its_own = isinstance(answer, dict) and "error" in answer
        if response.status == http.HTTPStatus.SERVICE_UNAVAILABLE and is_its_own:
            return _BusyError("it times another file, or has many connections")
        if response.status in _PASSING:
            return _LostError(f"status {response.status}")
        return self._failure(answer) if is_its_own else self._foreign(f"status {response.status}")

    def _failure(self, answer: dict[str, Any]) -> Exception:
        """Return what is raised for a measurement that failed."""
        if "missing" in answer:
            return DeviceError(
                f"{self.url}: the stopwatch does not keep the files that it got",
                fix="start it with a larger --max-gib",
            )
        error = answer.get("error")
        if not (isinstance(error, dict) and all(isinstance(error.get(name), str) for name in ("message", "fix"))):
            return self._foreign(answer)
        kind = _KINDS.get(str(error.get("kind")), DeviceError)
        return kind(f"{self.url}: {error['message']}", fix=error["fix"])

    def _checked(self, result: object, file: bytes) -> RatioStats:
        """Return the statistics in ``result``, the ones of ``file`` against the reference."""
        types = {"num_runs": int, "num_blocks": int, "warm": bool}
        if not isinstance(result, dict) or not (
            result.get("sha256") == _digest(file)
            and result.get("reference_sha256") == _digest(self._reference)
            and all(_is_right(result.get(each.name), types.get(each.name, float)) for each in fields(RatioStats))
        ):
            raise self._foreign(result)
        return RatioStats(**{each.name: result[each.name] for each in fields(RatioStats)})

    def _foreign(self, answer: object) -> DeviceError:
        return DeviceError(
            f"{self.url}: this is no stopwatch, or another version: it answers {quote(answer)}",
            fix="take the URL that the stopwatch printed at its start, and the same version at both ends",
        )


class _LostError(Exception):
    """No answer, or only a part of it."""

    state, end = "cannot be reached", "back"


class _BusyError(_LostError):
    """The stopwatch is there, but times another file for longer than it lets a file wait."""

    state, end = "is busy", "free again"


_PASSING = (502, 503, 504)
"""Statuses of something between client and server while the server is away."""


def _checked_url(url: str) -> str:
    """Return ``url`` without a slash at its end."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        rest = parts.path.strip("/") + parts.query + parts.fragment + (parts.username or "") + (parts.password or "")
    except ValueError:  # a port that is no number
        is_right, rest = False, ""
    if not is_right or rest or not url.isascii() or not url.isprintable() or " " in url:
        raise DeviceError(
            f"the URL of a stopwatch cannot be {quote(url)}",
            fix="write http://host:port, such as http://127.0.0.1:8765",
        )
    return url.rstrip("/")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{quote_path(path)}: the image cannot be read: {quote_error(error)}", fix="add the file, or replace it"
        ) from error


def _is_right(value: object, kind: type) -> bool:
    """Return whether ``value`` is a positive finite number, or of type bool if ``kind`` is."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    allowed = isinstance(value, int) if kind is int else isinstance(value, int | float)
    return allowed and 0 < value < math.inf  # type: ignore[operator]
