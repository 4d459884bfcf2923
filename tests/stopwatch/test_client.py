from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smnas_optuna.errors import DataError, DeviceError, FileError, OutOfMemoryError
from smnas_optuna.stopwatch import client as client_module
from smnas_optuna.stopwatch import server as server_module
from smnas_optuna.stopwatch.client import StopwatchClient
from smnas_optuna.stopwatch.measure import Conditions, FileStats
from smnas_optuna.stopwatch.server import StopwatchServer
from smnas_optuna.stopwatch.store import Store

from ..runtime.exported_files import DESCRIPTION, make_content, make_model
from .conftest import REFERENCE
from .test_server import TOKEN, running, serving

FILE, REFERENCE_FILE = make_content(slow=1), make_content(REFERENCE)
QUICK = Conditions(num_threads=1, precision=0.5, max_seconds=0.05)


class PausedError(Exception):
    pass


def _stop(_: float) -> None:
    raise PausedError


def _client(port: int, images: Sequence[Path], **options: Any) -> StopwatchClient:
    settings = {"reference": REFERENCE_FILE, "images": images, "pause": _stop, "token": TOKEN, **options}
    return StopwatchClient(f"http://127.0.0.1:{port}/", **settings)


@pytest.fixture
def images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if path.is_file())


def test_a_detector_is_timed_elsewhere(images: list[Path]) -> None:
    with serving() as port:
        client = _client(port, images)

        stats, result = client.measure(FILE, QUICK)
        described = client.describe()

    assert 0 < stats.ratio_low <= stats.ratio <= stats.ratio_high
    assert stats.num_runs >= stats.num_blocks >= 6
    assert (result["arch"], result["reference"], result["images"]) == (DESCRIPTION.arch, REFERENCE.arch, 4)
    assert described["device"]["cores"] >= 1


def test_it_can_be_stopped_while_the_stopwatch_works(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        pass

    beats = list[None]()

    def beat() -> None:
        beats.append(None)
        if len(beats) == 12:  # more than the answers to the requests before it
            raise StopError

    monkeypatch.setattr(server_module, "BEAT_S", 0.02)
    with serving() as port:
        client = _client(port, images, on_beat=beat)
        with pytest.raises(StopError):
            client.measure(FILE, Conditions(num_threads=1, precision=0, max_seconds=99))
        assert _client(port, images).measure(FILE, QUICK)[0].ratio > 0


def test_files_are_sent_once(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sent, real = list[str](), StopwatchClient._send

    def send(self: StopwatchClient, content: Any, digest: str, limit: int) -> None:
        sent.append(digest)
        real(self, content, digest, limit)

    monkeypatch.setattr(StopwatchClient, "_send", send)
    with serving() as port:
        client = _client(port, images)
        client.measure(FILE, QUICK)
        assert len(sent) == len(set(sent)) == 6
        client.measure(FILE, QUICK)
        client.measure(REFERENCE_FILE, QUICK)
        assert len(sent) == 6
        client.measure(make_content(), QUICK)
        assert sent[6:] == [hashlib.sha256(make_content()).hexdigest()]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "ftp://x", "127.0.0.1:80", "", "http://", "http://a:b@c", "x:y:z"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(DeviceError, match=r"^the URL of a stopwatch cannot be '.*'\n  fix: write http://host:port"):
        StopwatchClient(url, TOKEN, reference=b"", images=[])


@pytest.mark.parametrize("token", ["", "a\nb", "ä"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(DeviceError, match="the token of the stopwatch is no printable text"):
        StopwatchClient("http://127.0.0.1:1", token, reference=b"", images=[])


def test_a_wrong_token_is_told_and_not_waited_for(images: list[Path]) -> None:
    with serving() as port:
        client = _client(port, images, token="wrong")
        for use in (client.describe, lambda: client.measure(FILE, QUICK)):
            with pytest.raises(DeviceError, match=r"the stopwatch does not accept the token\n  fix: take the token"):
                use()


def test_at_first_it_must_be_there(images: list[Path]) -> None:
    with serving() as port:
        pass

    with pytest.raises(
        DeviceError, match=r"the stopwatch cannot be reached: Connection refused\n  fix: start it there"
    ):
        _client(port, images).describe()


def test_a_lost_connection_is_told_once_and_waited_for(images: list[Path]) -> None:
    notes, pauses = list[str](), list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise PausedError

    with serving() as port:
        client = _client(port, images, note=notes.append, pause=pause)
        client.measure(FILE, QUICK)
    with pytest.raises(PausedError):
        client.measure(FILE, QUICK)

    assert notes == [f"http://127.0.0.1:{port}: the stopwatch cannot be reached: Connection refused; waiting for it"]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("pixels", [10, 2600], ids=["small", "more than is heard after an answer"])
def test_a_busy_stopwatch_is_told_once_and_waited_for(
    pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "BUSY_S", 0.01)
    Image.new("RGB", (pixels, pixels)).save(image := tmp_path / "image.bmp")
    notes, pauses = list[str](), list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            server.turn.release()

    with Store() as store, running(store) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        client = _client(server.server_address[1], [image], note=notes.append, pause=pause)
        server.turn.acquire()
        assert client.measure(FILE, QUICK)[0].ratio > 0

    assert notes == [
        f"{url}: the stopwatch is busy: it times another file, or has many connections; waiting for it",
        f"{url}: the stopwatch is free again",
    ]
    assert pauses == [1, 2, 4, 8, 16, 30]


def test_a_stopwatch_that_is_back_but_busy_is_told_as_busy(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BUSY_S", 0.01)
    with serving() as port:
        pass
    notes, pauses, servers = list[str](), list[float](), list[StopwatchServer]()

    with ExitStack() as stack:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                servers.append(stack.enter_context(running(stack.enter_context(Store()), port=port)))
                servers[0].turn.acquire()
            elif len(pauses) == 4:
                servers[0].turn.release()

        assert _client(port, images, note=notes.append, pause=pause).measure(FILE, QUICK)[0].ratio > 0

    assert [note.removeprefix(f"http://127.0.0.1:{port}: the stopwatch ") for note in notes] == [
        "cannot be reached: Connection refused; waiting for it",
        "is busy: it times another file, or has many connections; waiting for it",
        "is free again",
    ]
    assert pauses == [1, 2, 4, 8]


def test_a_stopwatch_with_too_many_connections_is_busy(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    said = list[str]()
    with serving() as port, socket.create_connection(("127.0.0.1", port)), pytest.raises(PausedError):
        _client(port, images, note=said.append).measure(FILE, QUICK)

    assert [line.partition(": the stopwatch ")[2] for line in said] == [
        "is busy: it times another file, or has many connections; waiting for it"
    ]


def test_a_file_that_is_sent_slowly_is_not_lost(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_S", 2.0)
    monkeypatch.setattr(client_module, "_BLOCK_BYTES", 2**16)
    content, got = bytes(2**25), list[int]()

    def read_slowly(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while sum(got) < len(content):
                got.append(len(connection.recv(2**18)))
                if not got[-1]:
                    return  # the client has given up
                time.sleep(0.02)
            answer = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=read_slowly, args=(server,), daemon=True)
        thread.start()
        begun = time.monotonic()
        _client(server.getsockname()[1], images)._send(content, hashlib.sha256(content).hexdigest(), len(content))
        seconds = time.monotonic() - begun
        thread.join()

    assert seconds > 2.0, "longer than a stopwatch may be silent"


def test_an_image_that_changes_meanwhile_is_named(images: list[Path]) -> None:
    with serving() as port:
        client = _client(port, images)
        assert client._images_by_digest
        images[1].write_bytes(images[0].read_bytes() + b"more")
        with pytest.raises(DataError, match=r"1\.png: the image has changed since the measurements began"):
            client.measure(FILE, QUICK)


def test_a_runtime_that_builds_for_long_shows_signs_of_life(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats, threads = list[int](), list[bool]()

    def measure(*_: object, on_step: Callable[[], None], **__: object) -> FileStats:
        time.sleep(2)  # the sessions
        beats.append(len(beats))
        on_step()
        threads.append(any(each.name == "beat" for each in threading.enumerate()))
        raise FileError("the exported file: enough", fix="none")

    monkeypatch.setattr(server_module, "measure_files", measure)
    monkeypatch.setattr(server_module, "BEAT_S", 0.05)
    with serving() as port:
        client = _client(port, images, on_beat=lambda: beats.append(len(beats)))
        with pytest.raises(FileError, match="enough"):
            client.measure(FILE, QUICK)

    assert len(beats) > 12, "there are about ten answers"
    assert threads == [False], "nothing runs beside what is timed"


def test_a_file_that_ends_the_stopwatch_again_and_again_is_given_up(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = _client(1, images, pause=lambda _: None)
    monkeypatch.setattr(client, "_send_missing", lambda _: None)

    with pytest.raises(DeviceError, match=r"the stopwatch was lost 10 times while it timed one exported file: "):
        client.measure(FILE, QUICK)


def test_memory_that_runs_out_there_settles_the_detector(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any, **__: Any) -> Any:
        raise OutOfMemoryError("the exported file: ONNX Runtime cannot run it", fix="free memory")

    monkeypatch.setattr(server_module, "measure_files", measure)
    with serving() as port, pytest.raises(OutOfMemoryError, match=r": the exported file: ONNX Runtime cannot run it"):
        _client(port, images).measure(FILE, QUICK)


def test_a_file_that_its_machine_cannot_run_is_named(images: list[Path]) -> None:
    broken = make_model()
    broken.graph.node[0].op_type = "Detect"
    with serving() as port:
        with pytest.raises(
            FileError, match=r"^http://127\.0\.0\.1:[0-9]+: the exported file: ONNX Runtime .* cannot load"
        ):
            _client(port, images).measure(bytes(broken.SerializeToString()), QUICK)
        with pytest.raises(DeviceError, match=r": the runtime cuda: ONNX Runtime"):
            _client(port, images).measure(FILE, Conditions(runtime="cuda"))


def test_images_that_are_missing_or_damaged_are_named(images: list[Path], tmp_path: Path) -> None:
    with serving() as port:
        with pytest.raises(DataError, match=r"none\.png: the image cannot be read: No such file"):
            _client(port, [*images, tmp_path / "none.png"]).measure(FILE, QUICK)
        (tmp_path / "bad.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r": image 5 of 5: the image cannot be read: "):
            _client(port, [*images, tmp_path / "bad.png"]).measure(FILE, QUICK)


def test_files_that_are_too_large_for_it_are_named(images: list[Path]) -> None:
    with serving(max_file_bytes=1000) as port, pytest.raises(DeviceError) as caught:
        _client(port, images).measure(FILE, QUICK)
    assert " bytes, and the stopwatch takes 1,000 at most\n  fix: start it with a larger --max-gib" in str(caught.value)

    most = max(len(FILE), *(path.stat().st_size for path in images))
    with serving(max_bytes=most + 10) as port, pytest.raises(DeviceError) as caught:
        _client(port, images).measure(FILE, QUICK)
    assert "the stopwatch does not keep the files that it got" in str(caught.value)


@contextmanager
def _answering(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Iterator[int]:
    """The port of a server that always answers the same."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {"Content-Type": kind, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", "text/html"),
        (200, b"[]", "application/json"),
        (200, b"{}", "application/json"),
        (200, b'{"missing": ["x"]}', "application/json"),
        (200, b'{"missing": [[1]]}', "application/json"),
        (404, b"<html>", "text/html"),
        (500, b'{"error": "x"}', "application/json"),
        (302, b"", "text/html"),
        (200, b'{"missing": [], "result": 1}', "application/json"),
        (200, b'{"missing": [], "result": {"ratio": 1}}', "application/json"),
    ],
    ids=range(10),
)
def test_another_server_is_noticed(status: int, body: bytes, kind: str, images: list[Path]) -> None:
    with _answering(status, body, kind, Location="http://127.0.0.1:1/secret") as port:
        client = _client(port, images)
        with pytest.raises(DeviceError, match=r"this is no stopwatch, or another version: it answers "):
            client.describe()
        with pytest.raises(DeviceError, match=r"this is no stopwatch, or another version: it answers "):
            client.measure(FILE, QUICK)


@pytest.mark.parametrize(
    "change", [{"ratio": "1"}, {"ratio": float("nan")}, {"p10_ms": -1}, {"num_runs": 1.5}, {"warm": 1}]
)
def test_a_result_that_is_none_is_noticed(change: dict[str, Any], images: list[Path]) -> None:
    with serving() as port:
        _, result = _client(port, images).measure(FILE, QUICK)
    client = _client(1, images)
    assert client._checked(result, FILE).ratio == result["ratio"]

    for wrong in ({**result, **change}, {**result, "sha256": "0"}, None):
        with pytest.raises(DeviceError, match="this is no stopwatch"):
            client._checked(wrong, FILE)


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"    "), (200, b'{"missing": ['), (502, b""), (503, b"{}"), (503, b"<html>")]
)
def test_an_answer_that_is_cut_off_counts_as_lost(status: int, body: bytes, images: list[Path]) -> None:
    notes = list[str]()
    with _answering(status, body) as port, pytest.raises(PausedError):
        _client(port, images, note=notes.append).measure(FILE, QUICK)

    assert len(notes) == 1
    assert notes[0].endswith("; waiting for it")
    assert "the stopwatch cannot be reached: " in notes[0]
    assert "busy" not in notes[0]


def test_a_proxy_in_the_environment_does_not_get_the_token(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving() as port:
        assert _client(port, images).describe()["device"]


def test_an_unlimited_interval_is_written_as_a_number(images: list[Path]) -> None:
    conditions = Conditions(num_threads=1, precision=0.5, max_seconds=0.05, acceptable=float("inf"))
    with serving() as port:
        _, result = _client(port, images).measure(FILE, conditions)

    assert result["conditions"]["acceptable"] == 1e9
    assert json.dumps(result, allow_nan=False)


def test_a_server_that_falls_silent_counts_as_lost(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(PausedError):
        _client(silent.getsockname()[1], images).measure(FILE, QUICK)
