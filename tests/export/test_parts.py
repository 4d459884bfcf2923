"""The parts of the latency of real exported detectors."""

from __future__ import annotations

import onnx
import pytest

from smnas_optuna.arch import decode
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Runtime
from smnas_optuna.runtime.parts import NETWORK, PARTS, part_of
from smnas_optuna.runtime.sessions import open_runner

from ..models.tiny_detectors import ARCHS, ONE_STAGE, TWO_STAGE, kinds, ready
from .compared import exported, noise

CASCADE, C4 = ARCHS["cascade2-xbottleneck-convc5"], ARCHS["c4-cascade3"]
OF_RETINA = {"backbone", "neck", "head", "selection"}
OF_C4 = {"backbone", "rpn", "proposals", "pooling", "head", "selection"}


def _parts(arch: str, runtime: Runtime) -> dict[str, float] | None:
    file, batch = DetectorFile.of(exported(arch), "detector.onnx"), noise(ready(arch), [(48, 64)])
    inputs = [(batch.images.numpy(), batch.sizes.numpy())]
    return open_runner(file, runtime, num_threads=1).parts(inputs, lambda: None)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("arch", "expected"),
    [(ONE_STAGE, OF_RETINA), (TWO_STAGE, OF_C4 | {"neck"}), (CASCADE, OF_C4 | {"neck"}), (C4, OF_C4)],
    ids=["retina", "two-stage", "cascade", "c4"],
)
def test_the_parts_of_a_detector_are_its_whole_time(arch: str, expected: set[str], runtime: Runtime) -> None:
    pytest.importorskip(runtime)

    shares = _parts(arch, runtime)

    assert shares is not None
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) - {"other"} == expected
    assert shares.get("other", 0.0) < 0.01
    assert sum(shares.get(part, 0.0) for part in NETWORK) > 0.2


@kinds
def test_each_node_of_an_exported_file_belongs_to_a_part(arch: str) -> None:
    model = onnx.load_from_string(exported(arch))

    parts = {part_of(node.name) for node in model.graph.node if node.op_type != "Constant"}

    assert parts <= PARTS.keys() - {"other"}
    spec = decode(arch)
    assert ("neck" in parts) == (spec.neck is not None)
    assert ({"rpn", "proposals", "pooling"} <= parts) == (spec.rpn is not None)
