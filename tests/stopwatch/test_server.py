from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smnas_optuna.stopwatch import server as server_module
from smnas_optuna.stopwatch.measure import measure_files
from smnas_optuna.stopwatch.server import MAX_CONNECTIONS, MAX_JSON_BYTES, StopwatchServer, _Beat
from smnas_optuna.stopwatch.store import Store

from ..runtime.exported_files import DESCRIPTION, make_content, make_model
from .conftest import REFERENCE

TOKEN = "a-token-of-the-tests"
QUICK = {"num_threads": 1, "precision": 0.5, "max_seconds": 0.05, "acceptable": 10}


@contextmanager
def serving(*, max_bytes: int = 2**26, max_file_bytes: int = 2**24, notes: list[str] | None = None) -> Iterator[int]:
    """The port of a server in a thread."""
    with Store(max_bytes=max_bytes, max_file_bytes=max_file_bytes) as store, running(store, notes=notes) as server:
        yield server.server_address[1]


@contextmanager
def running(store: Store, *, port: int = 0, notes: list[str] | None = None) -> Iterator[StopwatchServer]:
    """A server in a thread."""
    note = (notes if notes is not None else []).append
    with StopwatchServer(("127.0.0.1", port), token=TOKEN, store=store, note=note) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, *, token: str | None = TOKEN, **headers: str
) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path)
    if body is not None and "Content-Length" not in (headers := {k.replace("_", "-"): v for k, v in headers.items()}):
        headers["Content-Length"] = str(len(body))
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    if connection.sock is not None and "Content-Length" in headers and int(headers["Content-Length"]) < 2**20:
        connection.sock.shutdown(socket.SHUT_WR)  # nothing follows a body that is cut off
    with connection.getresponse() as response:
        return response.status, json.loads(response.read())


def put(port: int, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    assert ask(port, "PUT", f"/v1/files/{digest}", content) == (201, {})
    return digest


def measure(port: int, file: str, reference: str, images: list[str], **conditions: Any) -> tuple[int, Any]:
    request = {"file": file, "reference": reference, "images": images, "conditions": {**QUICK, **conditions}}
    return ask(port, "POST", "/v1/measure", json.dumps(request).encode())


def test_a_file_does_not_wait_for_a_long_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BUSY_S", 0.01)
    content = b"a file"
    path = f"/v1/files/{hashlib.sha256(content).hexdigest()}"
    with Store(max_bytes=100, max_file_bytes=100) as store, running(store) as server:
        with server.turn:
            status, answer = ask(server.server_address[1], "PUT", path, content)
        assert ask(server.server_address[1], "PUT", path, content) == (201, {})

    assert (status, answer["error"]["message"]) == (503, "another file is being timed; try again")


def test_a_detector_is_timed_for_a_client(folder: Path) -> None:
    notes = list[str]()
    with serving(notes=notes) as port:
        file, reference = put(port, make_content(slow=1)), put(port, make_content(REFERENCE))
        images = [put(port, path.read_bytes()) for path in sorted(folder.glob("*.png")) if path.is_file()]

        status, answer = measure(port, file, reference, images)

    assert status == 200
    result = answer["result"]
    assert (result["sha256"], result["reference_sha256"], result["images"]) == (file, reference, 4)
    assert result["arch"] == DESCRIPTION.arch
    assert 0 < result["ratio_low"] <= result["ratio"] <= result["ratio_high"]
    assert len(notes) == 1
    assert notes[0].startswith(f"{DESCRIPTION.arch}: ")


def test_it_says_what_it_is_and_what_it_has() -> None:
    with serving() as port:
        status, described = ask(port, "GET", "/v1")
        file = put(port, b"content")
        missing = ask(port, "POST", "/v1/missing", json.dumps({"files": [file, "other"]}).encode())

    assert (status, described["max_file_bytes"], described["max_bytes"]) == (200, 2**24, 2**26)
    assert described["device"]["cores"] >= 1
    assert missing == (200, {"missing": ["other"]})


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "\xff"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1"), ("GET", "/"), ("PUT", "/v1/files/x"), ("POST", "/v1/measure"), ("POST", "/v1/missing")],
)
def test_without_the_token_nothing_is_told(token: str | None, method: str, path: str) -> None:
    with serving() as port:
        status, answer = ask(port, method, path, b"{}" if method != "GET" else None, token=token)

    assert (status, answer["error"]["message"]) == (401, "the token is missing or wrong")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/files/x"),
        ("GET", "/../../etc/passwd"),
        ("PUT", "/v1"),
        ("PUT", "/etc/passwd"),
        ("POST", "/v2"),
    ],
)
def test_other_paths_are_not_there(method: str, path: str) -> None:
    with serving() as port:
        status, _ = ask(port, method, path, b"{}" if method != "GET" else None)

    assert status == 404


@pytest.mark.parametrize(
    ("content", "headers", "status", "what"),
    [
        (b"content", {}, 400, "the file ended early, or its name is not its SHA-256"),
        (b"conten", {"Content-Length": "7"}, 400, "the file ended early, or its name is not its SHA-256"),
        (b"", {"Content-Length": str(2**24 + 1)}, 413, "the body is larger than 16,777,216 bytes"),
        (b"", {"Content-Length": "9" * 4000}, 413, "the body is larger than 16,777,216 bytes"),
        (b"", {"Content-Length": "-1"}, 411, "the length of the body is missing"),
        (b"", {"Content-Length": "0x10"}, 411, "the length of the body is missing"),
        (
            b"0\r\n\r\n",
            {"Transfer-Encoding": "chunked", "Content-Length": "5"},
            411,
            "the length of the body is missing",
        ),
    ],
    ids=["another hash", "cut off", "large", "huge", "negative", "no number", "chunked"],
)
def test_files_that_are_not_as_they_should_be_are_refused(
    content: bytes, headers: dict[str, str], status: int, what: str
) -> None:
    with serving() as port:
        assert _raw(port, "PUT", f"/v1/files/{'0' * 64}", content, headers) == (status, what)
        assert ask(port, "GET", "/v1")[0] == 200, "the server goes on"


def _raw(port: int, method: str, path: str, content: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Status and message of the answer to a request that is written as it is."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Length": str(len(content)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{method} {path} HTTP/1.0\r\n{head}\r\n".encode() + content)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        (b"", 400, "the body is no JSON object, or it is cut off"),
        (b"[]", 400, "the body is no JSON object, or it is cut off"),
        (b"[" * 100_000, 400, "the body is no JSON object, or it is cut off"),
        (b"{}", 400, "`file` must be 1 to 1 hashes"),
        (b'{"file": 1, "reference": "x"}', 400, "`file` must be 1 to 1 hashes"),
        (b'{"file": "x", "reference": "x", "images": []}', 400, "`images` must be 1 to 256 hashes"),
        (b'{"file": "x", "reference": "x", "images": ["x", 1]}', 400, "`images` must be 1 to 256 hashes"),
        (b'{"file": "x", "reference": "x", "images": ["x"]}', 400, "the conditions are None"),
        (b" " * (MAX_JSON_BYTES + 1), 413, "the body is larger than 262,144 bytes"),
    ],
    ids=range(9),
)
def test_requests_that_are_wrong_are_refused(body: bytes, status: int, what: str) -> None:
    with serving() as port:
        assert _raw(port, "POST", "/v1/measure", body, {}) == (status, what)


@pytest.mark.parametrize(
    ("conditions", "what"),
    [
        ({"runtime": "torch"}, "runtime cannot be 'torch'"),
        ({"runtime": ["onnxruntime"]}, "runtime cannot be ['onnxruntime']"),
        ({"num_threads": 0}, "num_threads cannot be 0"),
        ({"num_threads": True}, "num_threads cannot be True"),
        ({"num_threads": 10**9}, "num_threads cannot be 1000000000"),
        ({"max_seconds": 10**9}, "max_seconds cannot be 1000000000"),
        ({"max_seconds": float("nan")}, "max_seconds cannot be nan"),
        ({"precision": "1"}, "precision cannot be '1'"),
        ({"acceptable": float("inf")}, "acceptable cannot be inf"),
        ({"acceptable": 10**400}, "acceptable cannot be 1"),
    ],
)
def test_conditions_are_checked(conditions: dict[str, Any], what: str) -> None:
    with serving() as port:
        status, answer = measure(port, "x", "x", ["x"], **conditions)

    assert status == 400
    assert answer["error"]["message"].startswith(what)


def test_what_is_not_there_is_named() -> None:
    with serving() as port:
        reference = put(port, make_content(REFERENCE))

        assert measure(port, "../x", reference, ["y", "y"]) == (200, {"missing": ["../x", "y"]})


def test_files_and_images_that_cannot_be_used_are_named(folder: Path) -> None:
    broken = make_model()
    broken.graph.node[0].op_type = "Detect"
    with serving() as port:
        good, image = put(port, make_content(REFERENCE)), put(port, (folder / "0.png").read_bytes())
        cases = [
            (put(port, b"no file"), [image], "FileError", "the exported file: it is no exported detector: "),
            (put(port, make_content()[:999]), [image], "FileError", "the exported file: it is no exported detector: "),
            (put(port, broken.SerializeToString()), [image], "FileError", "the exported file: ONNX Runtime "),
            (good, [image, put(port, b"no image")], "DataError", "image 2 of 2: the image cannot be read: "),
        ]
        for file, images, kind, message in cases:
            status, answer = measure(port, file, good, images)

            assert (status, answer["error"]["kind"]) == (200, kind)
            assert answer["error"]["message"].startswith(message)
            assert "/" not in answer["error"]["message"].split(":")[0], "no path of the server"
        assert "result" in measure(port, good, good, [image])[1], "the server goes on"


def test_the_least_recently_used_files_make_room() -> None:
    with serving(max_bytes=100, max_file_bytes=60) as port:
        first, second = put(port, b"1" * 60), put(port, b"2" * 60)

        assert ask(port, "POST", "/v1/missing", json.dumps({"files": [first, second]}).encode())[1] == {
            "missing": [first]
        }


def test_measurements_take_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most = list[int](), list[int]()

    def watched(*args: Any, **kwargs: Any) -> Any:
        at_work.append(1)
        most.append(len(at_work))
        try:
            return measure_files(*args, **kwargs)
        finally:
            at_work.pop()

    monkeypatch.setattr(server_module, "measure_files", watched)
    monkeypatch.setattr(server_module, "BEAT_S", 0.01)
    answers = list[Any]()
    with serving() as port:
        file, image = put(port, make_content()), put(port, (folder / "0.png").read_bytes())
        threads = [
            threading.Thread(target=lambda: answers.append(measure(port, file, file, [image])[1])) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len([answer for answer in answers if "result" in answer]) == 4
    assert most == [1] * 4


def test_a_client_that_has_gone_is_not_worked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BEAT_S", 0.02)
    with serving() as port:
        file, image = put(port, make_content()), put(port, (folder / "0.png").read_bytes())
        request = {
            "file": file,
            "reference": file,
            "images": [image],
            "conditions": {"precision": 0, "max_seconds": 99},
        }
        body = json.dumps(request).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = f"POST /v1/measure HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            assert connection.recv(12) == b"HTTP/1.0 200"

        assert "result" in measure(port, file, file, [image])[1]


def test_connections_that_say_nothing_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module._Handler, "timeout", 0.3)
    with serving() as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(MAX_CONNECTIONS + 5)]
        try:
            closed = [connection for connection in idle if _is_closed(connection, seconds=5)]
        finally:
            for connection in idle:
                connection.close()
        assert len(closed) == len(idle)
        assert ask(port, "GET", "/v1")[0] == 200, "they were given up"


def _is_closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        said = b""
        while part := connection.recv(65536):
            said += part
        return not said or said.startswith(b"HTTP/1.1 503 ")
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@given(st.lists(st.binary(max_size=300), max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_else_is_survived(one_server: int, parts: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", one_server), timeout=20) as connection, suppress(OSError):
        for part in (b"PUT /v1/files/", *parts):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    assert ask(one_server, "GET", "/v1")[0] == 200


@pytest.fixture
def one_server() -> Iterator[int]:
    with serving() as port:
        yield port


def test_signs_of_life_are_seldom() -> None:
    written, seconds = list[bytes](), iter([0, 1, 4.9, 5, 5, 6, 10.1, 10.1])
    beat = _Beat(lambda part: written.append(part), now=lambda: next(seconds))

    for _ in range(5):
        beat()

    assert written == [b" ", b" "]
