"""The parts of a latency, taken by a runner: nothing depends on them, so that nothing fails for them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from smnas_optuna.errors import FileError
from smnas_optuna.runtime.names import WARM_UP_RUNS, Inputs, Operators, Runtime, Shape
from smnas_optuna.runtime.sessions import LEAST_PROFILED, MOST_PROFILED, PROFILE_SECONDS, CanvasSessions, open_runner

from .exported_files import make_file

LANDSCAPE, PORTRAIT = (1, 3, 48, 64), (1, 3, 64, 48)


def _inputs(*shapes: Shape) -> list[Inputs]:
    return [(np.zeros(shape, np.uint8), np.array([shape[2:]])) for shape in shapes]


def _runner(*, failure: Exception | None = None, seen: list[Shape] | None = None) -> CanvasSessions:
    """A runner whose operators take as many us as there are runs."""

    def profile(shape: Shape, inputs: Iterable[Inputs]) -> Generator[None, None, Operators]:
        num_runs = 0
        for images, _ in inputs:
            assert images.shape == shape
            num_runs += 1
            if seen is not None:
                seen.append(shape)
            if failure is not None and num_runs == 2:
                raise failure
            yield
        return [("/backbone/Conv", float(num_runs)), ("/neck/Conv", 36.0)]

    return CanvasSessions(make_file(), lambda _: pytest.fail("it is not built"), profile)


def test_shares_are_those_of_the_most_frequent_canvas() -> None:
    seen = list[Shape]()

    shares = _runner(seen=seen).parts(_inputs(PORTRAIT, LANDSCAPE, LANDSCAPE), lambda: None)

    assert shares == {"backbone": 0.25, "neck": 0.75}
    assert seen == [LANDSCAPE] * (WARM_UP_RUNS + MOST_PROFILED)


@pytest.mark.parametrize(
    "failure",
    [
        FileError("no", fix="none"),
        OSError(28, "No space left on device"),
        ValueError("no profile"),
        RuntimeError("the runtime has none"),
        AttributeError("profiling_info"),
        MemoryError(),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_profile_that_fails_tells_nothing(failure: Exception) -> None:
    assert _runner(failure=failure).parts(_inputs(LANDSCAPE), lambda: None) is None


def test_a_runtime_that_does_not_tell_is_not_run() -> None:
    steps = list[None]()
    runner = CanvasSessions(make_file(), lambda _: pytest.fail("it is not built"))

    assert runner.parts(_inputs(LANDSCAPE), lambda: steps.append(None)) is None
    assert steps == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_who_stops_it_is_heard_and_nothing_stays_behind(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(runtime)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runs = list[int]()

    def stop() -> None:
        runs.append(len(list(tmp_path.rglob("*.json"))))
        if len(runs) == 3:
            raise OSError("the client has gone")

    with pytest.raises(OSError, match="the client has gone"):
        open_runner(make_file(), runtime, num_threads=1).parts(_inputs(LANDSCAPE), stop)

    assert runs == [int(runtime == "onnxruntime")] * 3, "the profile is where it was told to be"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["gone", "closed"])
def test_without_a_place_for_the_profile_there_are_no_parts(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    if where == "closed":
        folder.write_text("a file, which also stops root")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    assert open_runner(make_file(), num_threads=1).parts(_inputs(LANDSCAPE), lambda: None) is None


def test_a_version_of_the_runtime_without_a_profile_has_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def end_profiling(self) -> Any:
            raise AttributeError("end_profiling")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)

    assert open_runner(make_file(), num_threads=1).parts(_inputs(LANDSCAPE), lambda: None) is None


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_that_this_exporter_did_not_name_has_no_parts(runtime: Runtime) -> None:
    pytest.importorskip(runtime)
    assert open_runner(make_file(slow=2), runtime).parts(_inputs(LANDSCAPE), lambda: None) is None


@pytest.mark.parametrize(("in_time", "runs"), [(0, LEAST_PROFILED), (4, 4), (99, MOST_PROFILED)])
def test_a_slow_detector_is_run_a_few_times(in_time: int, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = WARM_UP_RUNS + in_time - (WARM_UP_RUNS + LEAST_PROFILED) if in_time else 0
    times = chain([0.0] + [PROFILE_SECONDS / 2] * looks, repeat(2 * PROFILE_SECONDS))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    steps = list[None]()

    _runner().parts(_inputs(LANDSCAPE), lambda: steps.append(None))

    assert len(steps) == WARM_UP_RUNS + runs
