from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from smnas_optuna.errors import DeviceError, FileError, OutOfMemoryError
from smnas_optuna.runtime.canvas import canvas_size
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.failures import failure_of
from smnas_optuna.runtime.names import OUTPUTS, Arrays, Runtime, Shape
from smnas_optuna.runtime.sessions import CanvasSessions, Found, Runner, open_runner

from .exported_files import SLOTS, expected, make_content, make_file, make_model

CPU_RUNTIMES: list[Runtime] = ["onnxruntime", "openvino"]
FIX = "\n  fix: export the detector again, with `smnas export`"


def _open(runtime: Runtime, file: DetectorFile | None = None) -> Runner:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    return open_runner(file or make_file(), runtime, num_threads=1)


def _images(batch: int, *, portrait: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng(batch)
    height, width = canvas_size(64, 48, portrait=portrait)
    images = np.concatenate(
        [random.integers(0, 256, (batch, 1, height, width)), random.integers(0, 99, (batch, 2, height, width))], 1
    ).astype(np.uint8)
    return images, random.integers(20, 48, (batch, 2))


def _assert_same(found: Found, other: Found) -> None:
    for name in OUTPUTS:
        mine, its = getattr(found, name), getattr(other, name)
        assert mine.dtype == its.dtype, name
        np.testing.assert_allclose(mine, its, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("portrait", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_a_runtime_finds_what_the_file_says(runtime: Runtime, batch: int, portrait: bool) -> None:
    images, sizes = _images(batch, portrait=portrait)

    _assert_same(_open(runtime).run(images, sizes), expected(images, sizes))


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_a_runner_takes_turns_between_canvases_and_its_results_stay(runtime: Runtime) -> None:
    runner = _open(runtime)
    inputs = [_images(batch, portrait=portrait) for batch in (1, 2) for portrait in (False, True)] * 2

    found = [runner.run(*each) for each in inputs]

    for each, result in zip(inputs, found, strict=True):
        _assert_same(result, expected(*each))


def test_a_session_is_built_once_for_each_shape() -> None:
    built = list[Shape]()

    def build(shape: Shape) -> Any:
        built.append(shape)
        return lambda images, sizes: [getattr(expected(images, sizes), name) for name in OUTPUTS]

    runner = CanvasSessions(make_file(), build)
    runner.prepare((1, 3, 64, 64))
    for batch, portrait in [(1, False), (2, False), (1, False), (2, False)]:
        runner.run(*_images(batch, portrait=portrait))

    assert built == [(1, 3, 64, 64), (2, 3, 64, 64)]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"boxes": np.zeros((1, 3, 5), np.float32)}, "`boxes` is float32 [1, 3, 5], but must be float32 [1, 3, 4]"),
        ({"boxes": np.float32(1)}, "`boxes` is float32 [], but must be float32 [1, 0, 4]"),
        ({"labels": np.zeros((1, 3), np.int32)}, "`labels` is int32 [1, 3], but must be int64 [1, 3]"),
        ({"scores": np.zeros((1, 4), np.float32)}, "`scores` is float32 [1, 4], but must be float32 [1, 3]"),
        ({"counts": np.zeros((2,), np.int64)}, "`counts` is int64 [2], but must be int64 [1]"),
    ],
)
def test_outputs_of_another_shape_or_type_are_refused(changes: dict[str, Any], what: str) -> None:
    def execute(images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Arrays:
        return [changes.get(name, getattr(expected(images, sizes), name)) for name in OUTPUTS]

    with pytest.raises(FileError) as caught:
        CanvasSessions(make_file(), lambda _: execute).run(*_images(1, portrait=False))

    assert str(caught.value) == f"detector.onnx: it is no exported detector: its output {what}{FIX}"


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
@pytest.mark.parametrize("renamed", [{"sizes": "shapes"}, {"boxes": "rectangles"}])
def test_other_inputs_and_outputs_are_refused(runtime: Runtime, renamed: dict[str, str]) -> None:
    runner = _open(runtime, DetectorFile.of(make_content(slow=0, **renamed), "a.onnx"))

    with pytest.raises(FileError, match=r"^a\.onnx: it is no exported detector: its inputs and outputs are images"):
        runner.run(*_images(1, portrait=False))


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_a_graph_that_no_runtime_understands_is_refused(runtime: Runtime) -> None:
    model = make_model()
    model.graph.node[0].op_type = "Detect"
    runner = _open(runtime, DetectorFile.of(model.SerializeToString(), "a.onnx"))

    with pytest.raises(FileError, match=r"^a\.onnx: (ONNX Runtime|OpenVINO) [0-9].* cannot load it: ") as caught:
        runner.run(*_images(1, portrait=False))

    assert str(caught.value).endswith(FIX)


def test_a_graph_that_fails_while_it_runs_is_refused() -> None:
    model = make_model()
    squeeze = next(node for node in model.graph.node if node.op_type == "Squeeze")
    squeeze.op_type = "Reshape"
    squeeze.input[1] = "too_many"
    model.graph.initializer.append(numpy_helper.from_array(np.array([7]), "too_many"))
    runner = _open("onnxruntime", DetectorFile.of(model.SerializeToString(), "a.onnx"))  # OpenVINO forgives that

    with pytest.raises(FileError, match=r"^a\.onnx: ONNX Runtime [0-9].* cannot (load|run) it: "):
        runner.run(*_images(1, portrait=False))


@pytest.mark.parametrize(
    ("runtime", "library", "what"),
    [
        ("openvino", "openvino", "OpenVINO cannot be imported: .*\n  fix: install it: pip install openvino"),
        ("onnxruntime", "onnxruntime", "ONNX Runtime cannot be imported: .*\n  fix: install it: pip install onnx"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named(
    runtime: Runtime, library: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(DeviceError, match=what):
        open_runner(make_file(), runtime)


@pytest.mark.parametrize("runtime", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_named(runtime: Runtime) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if len(onnxruntime.get_available_providers()) > 2:
        pytest.skip("there is one")

    with pytest.raises(DeviceError) as caught:
        open_runner(make_file(), runtime)

    assert f"the runtime {runtime}: ONNX Runtime {onnxruntime.__version__} has no " in str(caught.value)
    assert "install onnxruntime-gpu" in str(caught.value)


def test_an_unknown_runtime_and_no_thread_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"^the runtime 'torch' is not known\n  fix: take one of onnxruntime, openv"):
        open_runner(make_file(), "torch")  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=r"^num_threads must be at least 1, but is 0"):
        open_runner(make_file(), num_threads=0)
    assert set(CPU_RUNTIMES) < set(get_args(Runtime))


def test_slots_beyond_the_count_are_zeros() -> None:
    images, sizes = _images(3, portrait=False)

    found = _open("onnxruntime").run(images, sizes)

    beyond = np.arange(SLOTS) >= found.counts[:, None]
    assert not found.boxes[beyond].any()
    assert not found.scores[beyond].any()


SIGNALLED = """
import signal, sys
import numpy as np
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.openvino_session import OpenVinoSessions

file = DetectorFile.of(sys.stdin.buffer.read(), "a.onnx")
sessions = [OpenVinoSessions(file, 1) for _ in range(2)]
for each in sessions:
    each.build((1, 3, 64, 64))(np.zeros((1, 3, 64, 64), np.uint8), np.array([[48, 64]]))
while sessions:
    del sessions[0]
    each = None
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_after_two_sessions_of_openvino_is_handled() -> None:
    pytest.importorskip("openvino")

    done = subprocess.run([sys.executable, "-c", SIGNALLED], input=make_content(), capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (0, b"handled\n")


def _moved(nodes: Sequence[onnx.NodeProto], **constants: int) -> DetectorFile:
    """A file in which ``nodes`` make the ``moved_corner`` of all boxes, from ``constants`` and what is there."""
    model = make_model()
    unsqueeze = next(place for place, node in enumerate(model.graph.node) if node.output[0] == "corners")
    del model.graph.node[unsqueeze].input[0]
    model.graph.node[unsqueeze].input.insert(0, "moved_corner")
    for node in reversed(nodes):
        model.graph.node.insert(unsqueeze, node)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    return DetectorFile.of(model.SerializeToString(), "a.onnx")


def test_memory_that_runs_out_is_no_fault_of_the_file() -> None:
    nodes = [
        helper.make_node("Mul", ["count", "column"], ["counts_of"]),
        helper.make_node("ReduceMax", ["counts_of", "first"], ["many"], keepdims=0),
        helper.make_node("ConstantOfShape", ["many"], ["huge"]),
        helper.make_node("ReduceSum", ["huge", "first"], ["nothing"]),
        helper.make_node("Add", ["corner", "nothing"], ["moved_corner"]),
    ]
    file = _moved(nodes, count=1 << 42, first=0)

    with pytest.raises(OutOfMemoryError, match=r"^a\.onnx: ONNX Runtime [0-9].* cannot run it: "):
        _open("onnxruntime", file).run(*_images(1, portrait=False))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("std::bad_alloc"), OutOfMemoryError),
        (RuntimeError("CUDA failure 2: out of memory"), OutOfMemoryError),
        (RuntimeError("Non-zero status code returned while running Mul"), FileError),
    ],
)
def test_what_a_runtime_says_tells_whose_fault_it_is(error: Exception, kind: type[Exception]) -> None:
    assert type(failure_of("a.onnx", "A Runtime", "run", error)) is kind


def test_an_operator_that_fails_in_openvino_is_noticed_with_one_thread() -> None:
    pytest.importorskip("openvino")
    nodes = [
        helper.make_node("Div", ["column", "hundred"], ["numbers"]),
        helper.make_node("ReduceMax", ["numbers", "first"], ["number"], keepdims=0),
        helper.make_node("TopK", ["all_scores", "number"], ["best", "place"]),  # of the 0 best
        helper.make_node("ReduceSum", ["best", "one"], ["nothing"]),
        helper.make_node("Add", ["corner", "nothing"], ["moved_corner"]),
    ]
    file = _moved(nodes, hundred=100, first=0)

    with pytest.raises(FileError, match=r"^a\.onnx: OpenVINO [0-9].* cannot run it: "):
        _open("openvino", file).run(*_images(1, portrait=False))
