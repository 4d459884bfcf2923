"""Latencies of another device: a stopwatch in another process measures them, and may go away."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.errors import DeviceError, SmnasError
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.remote import TOKEN
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.forms import is_device
from smnas_optuna.workers.interrupt import StopRequest

from ..commands import PATIENCE, records, searching, smnas
from ..stopwatches import SECRET, free_port, stopwatch

SMALL = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


@pytest.fixture
def port() -> int:
    return free_port()


def timed_by(study_dir: Path, port: int, runtime: str = "") -> None:
    file = study_dir / "study.toml"
    text = file.read_text().replace('runtime = "eager"\n', f'{runtime}device = "http://127.0.0.1:{port}"\n')
    file.write_text(text)


def prepared(study_dir: Path) -> Testbed:
    return prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed


def test_a_detector_is_timed_there(drawn_dir: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(drawn_dir, port)
    spec = decode(SMALL)
    with stopwatch(port, tmp_path):
        testbed = prepared(drawn_dir)
        gate = testbed.measure_gate(spec, lambda: None)
        stats = testbed.measure_latency(testbed.build(spec, 0), spec, lambda: None)

    assert testbed.device_description["kind"] == "stopwatch"
    assert is_device(testbed.device_description), "trials store it, and are read with doubt"
    assert testbed.latency_values(stats)["runtime"] == "onnxruntime"
    assert testbed.latency_values(stats)["runtime_version"] == version("onnxruntime"), "the one on that device"
    assert testbed.remote is not None
    assert testbed.remote.host == platform.node()
    assert 0 < stats.ratio_low <= stats.ratio <= stats.ratio_high
    assert stats.parts is not None
    assert sum(stats.parts.values()) == pytest.approx(1)
    assert gate.parts is None
    assert gate.ratio < 1, "the reference is the larger baseline"
    assert "device" not in testbed.fingerprint["recipe"]["latency"], "it may move to another URL"


def test_another_device_behind_the_url_is_noticed(
    drawn_dir: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(drawn_dir, port)
    with stopwatch(port, tmp_path):
        testbed = prepared(drawn_dir)
        assert testbed.remote is not None
        monkeypatch.setitem(vars(testbed.remote), "_described", {"processor": "a board", "cores": 4})
        with pytest.raises(DeviceError, match=r"another device than at the beginning: .* cores, not a board with 4"):
            testbed.measure_gate(decode(SMALL), lambda: None)


def test_a_runtime_that_the_device_does_not_have_is_refused_by_it(
    drawn_dir: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(drawn_dir, port, 'runtime = "tensorrt"\n')
    with stopwatch(port, tmp_path):
        testbed = prepared(drawn_dir)
        with pytest.raises(SmnasError, match="tensorrt"):
            testbed.measure_gate(decode(SMALL), lambda: None)

    assert testbed.device_description["runtime"] == "tensorrt"


@pytest.mark.parametrize("token", ["", "y" * 20], ids=["none", "another"])
def test_without_the_token_nothing_begins(
    drawn_dir: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN, token)
    timed_by(drawn_dir, port)
    with stopwatch(port, tmp_path), pytest.raises(DeviceError, match="token"):
        prepared(drawn_dir)


def test_a_stopwatch_that_is_not_there_is_named(drawn_dir: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(drawn_dir, port)
    with pytest.raises(DeviceError, match=f"http://127.0.0.1:{port}: the stopwatch cannot be reached"):
        prepared(drawn_dir)


@pytest.mark.nightly
def test_a_search_waits_for_a_stopwatch_that_is_killed(
    study_dir: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(study_dir, port)
    lines = search_with_kills(study_dir, tmp_path, port)

    assert "ended: budget reached: 5 of 5 architectures are trained\n" in lines
    assert sum("the stopwatch is back" in line for line in lines) == 2
    trained = [record for record in records(study_dir) if record.trained]
    assert len({record.arch for record in trained}) == len(trained) == 5
    assert all(record.attrs["latency"]["ratio"] > 0 for record in trained)
    # What times nothing needs neither the stopwatch nor its token.
    monkeypatch.delenv(TOKEN)
    smnas("front", study_dir)
    smnas("verify", study_dir, "--device", "cpu", "--workers", "1", "--top", "1", "--seeds", "1", "--epochs", "1")
    smnas("export", study_dir, "--output", study_dir / "best.onnx")


def search_with_kills(study_dir: Path, folder: Path, port: int) -> list[str]:
    """Search while the stopwatch is killed, and started again once the search has noticed, twice; what it printed."""
    lines = list[str]()

    def read() -> None:
        assert search.stdout is not None
        for line in search.stdout:
            lines.append(line)  # one by one: another thread looks at them

    with ExitStack() as stack:
        watch = stack.enter_context(stopwatch(port, folder))
        search = stack.enter_context(searching(study_dir))
        reader = threading.Thread(target=read)
        reader.start()
        for times in (1, 2):
            wait_for(lambda times=times: trained_in(study_dir) >= times)  # type: ignore[misc]
            watch.kill()
            watch.wait()
            wait_for(lambda times=times: sum("cannot be reached" in line for line in lines) == times)  # type: ignore[misc]
            watch = stack.enter_context(stopwatch(port, folder))
        reader.join(PATIENCE)
        assert search.wait(PATIENCE) == 0
    return lines


def trained_in(study_dir: Path) -> int:
    return sum(record.trained for record in records(study_dir))


def wait_for(happens: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.5)
