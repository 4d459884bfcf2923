"""Latencies of another device: a stopwatch in another process measures them, and may go away."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.errors import DeviceError
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.remote import TOKEN
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.forms import is_device
from smnas_optuna.workers.interrupt import StopRequest

from ..commands import records, searching, smnas
from ..stopwatches import SECRET, free_port, stopwatch

SMALL = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


@pytest.fixture
def port() -> int:
    return free_port()


def timed_by(study_dir: Path, port: int) -> None:
    file = study_dir / "study.toml"
    text = file.read_text().replace('runtime = "eager"\n', f'device = "http://127.0.0.1:{port}"\n')
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
        stats = testbed.measure_latency(testbed.build(spec, 0), spec.input_size, lambda: None)

    assert testbed.device_description["kind"] == "stopwatch"
    assert is_device(testbed.device_description), "trials store it, and are read with doubt"
    assert testbed.latency_values(stats)["runtime"] == "onnxruntime"
    assert 0 < stats.ratio_low <= stats.ratio <= stats.ratio_high
    assert gate.ratio < 1, "the reference is the larger baseline"
    assert "device" not in testbed.fingerprint["recipe"]["latency"], "it may move to another URL"


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


@pytest.mark.slow
def test_a_search_waits_for_a_stopwatch_that_is_killed(
    study_dir: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(study_dir, port)
    with searching_with_kills(study_dir, tmp_path, port) as output:
        pass

    assert "ended: budget reached: 5 of 5 architectures are trained" in output[0]
    assert "the stopwatch cannot be reached" in output[0]
    assert "the stopwatch is back" in output[0]
    trained = [record for record in records(study_dir) if record.trained]
    assert len({record.arch for record in trained}) == len(trained) == 5
    assert all(record.attrs["latency"]["ratio"] > 0 for record in trained)
    assert smnas("front", study_dir).returncode == 0


@contextmanager
def searching_with_kills(study_dir: Path, folder: Path, port: int) -> Iterator[list[str]]:
    """A search whose stopwatch is killed and started again, twice; what it printed."""
    output = list[str]()
    with stopwatch(port, folder) as first, searching(study_dir) as search:
        reader = threading.Thread(target=lambda: output.append(search.communicate()[0]))
        reader.start()
        for count in (1, 3):
            wait_for(lambda count=count: sum(record.trained for record in records(study_dir)) >= count)
            first.send_signal(signal.SIGKILL)
            first.wait()
            time.sleep(3)
            with stopwatch(port, folder) as first:
                if count == 1:
                    wait_for(lambda: sum(record.trained for record in records(study_dir)) >= 3)
                else:
                    reader.join(240)
        assert search.returncode == 0
    yield output


def wait_for(happens: object, seconds: float = 240) -> None:
    """Wait until ``happens()`` is true."""
    until = time.monotonic() + seconds
    while not happens():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.3)
