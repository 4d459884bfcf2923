from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from smnas_optuna.arch import decode
from smnas_optuna.export import Exporter, described, export_detector, onnx_file
from smnas_optuna.runtime.detector_file import DetectorFile

from ..models.tiny_detectors import ARCHS, CONSTANTS, ONE_STAGE, TWO_STAGE, build, kinds, ready, spread_predictions
from ..runtime.exported_files import DESCRIPTION
from .compared import assert_same, exported, noise, on_canvas, run

PAIRS = {
    f"{rpn}-{head}": f"64x48.resnet18-w4.fpn-p2-p5-c32.{rpn}.{head}-w16"
    for rpn in ("rpn", "ga")
    for head in ("fc", "cascade2", "cascade3", "cascade4")
} | {"none-retina": "64x48.resnet18-w4.fpn-p3-p6-c8.none.retina"}
"""All combinations of RPN and head. With few channels some places would have features of 0 alone, hence equal scores,
and which of them are proposed is a tie."""
LARGE = "320x240.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w16"
"""The map of p2 has 5,120 places."""


some = pytest.mark.parametrize("arch", [ONE_STAGE, TWO_STAGE, ARCHS["guided-c4-basicblock"]])


@kinds
@torch.inference_mode()
def test_detections_are_the_detectors(arch: str) -> None:
    detector = ready(arch)
    for batch in (
        noise(detector, [(48, 64), (40, 30), (20, 64)], seed=1),
        noise(detector, [(64, 40)], portrait=True, seed=3),  # with 2, two logits at a cut are equal to the last bit
    ):
        assert assert_same(run(exported(arch), batch), detector.detect(batch)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize("arch", PAIRS.values(), ids=PAIRS)
@torch.inference_mode()
def test_every_pair_of_rpn_and_head_is_exported(arch: str, norm: str) -> None:
    with torch.inference_mode(False):
        detector = build(arch, constants=replace(CONSTANTS, norm=norm)).eval()
        draw_statistics(detector)
        spread_predictions(detector)
    batch = noise(detector, [(48, 64), (48, 50)])

    assert assert_same(run(export_detector(detector, DESCRIPTION), batch), detector.detect(batch)) > 0


def draw_statistics(detector: nn.Module) -> None:
    """Give every BatchNorm other statistics than 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)


@torch.inference_mode()
def test_batchnorm_is_folded() -> None:
    with torch.inference_mode(False):
        detector = build(TWO_STAGE, constants=replace(CONSTANTS, norm="bn")).eval()
        draw_statistics(detector)
        spread_predictions(detector)
    content, batch = export_detector(detector, DESCRIPTION), noise(detector, [(48, 64)])

    assert assert_same(run(content, batch), detector.detect(batch)) > 0
    assert "BatchNormalization" not in {node.op_type for node in onnx.load_from_string(content).graph.node}


@torch.inference_mode()
def test_rois_on_a_large_map_are_pooled_by_roi_align() -> None:
    detector = ready(LARGE)
    content, batch = exported(LARGE), noise(detector, [(240, 320), (100, 320)])

    assert assert_same(run(content, batch), detector.detect(batch)) > 0
    assert [node.op_type for node in onnx.load_from_string(content).graph.node].count("RoiAlign") == 1
    assert "RoiAlign" not in {node.op_type for node in onnx.load_from_string(exported(TWO_STAGE)).graph.node}


@some
@torch.inference_mode()
def test_nothing_is_found_where_no_score_passes(arch: str) -> None:
    with torch.inference_mode(False):
        detector = build(arch, constants=replace(CONSTANTS, score_threshold=0.999)).eval()
    batch = noise(detector, [(48, 64), (48, 64)])
    assert not any(len(each["scores"]) for each in detector.detect(batch))

    boxes, labels, scores, counts = run(export_detector(detector, DESCRIPTION), batch)

    assert boxes.shape == (2, CONSTANTS.max_detections, 4)
    assert not any(each.any() for each in (boxes, labels, scores, counts))


@some
def test_one_session_runs_any_batch_on_either_canvas(arch: str) -> None:
    detector = ready(arch)
    for batch in (noise(detector, [(48, 64)]), noise(detector, [(64, 48)] * 2, portrait=True)):
        with torch.inference_mode():
            expected = detector.detect(on_canvas(batch))

        assert_same(run(exported(arch), batch, fixed=False), expected)


@kinds
def test_the_graph_has_standard_operators_alone_and_no_control_flow(arch: str) -> None:
    model = onnx.load_from_string(exported(arch))

    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 17)}
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & {"If", "Loop", "Scan"}
    assert not model.functions
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    slots = CONSTANTS.max_detections
    assert shapes == [
        ["batch", 3, "height", "width"],
        ["batch", 2],
        ["batch", slots, 4],
        ["batch", slots],
        ["batch", slots],
        ["batch"],
    ]


def test_the_description_is_in_the_file() -> None:
    content = exported(TWO_STAGE)
    other = described(content, replace(DESCRIPTION, ap=0.7))

    assert DetectorFile.of(content, "a file").description == DESCRIPTION
    assert DetectorFile.of(other, "a file").description == replace(DESCRIPTION, ap=0.7)
    assert onnx.load_from_string(content).graph == onnx.load_from_string(other).graph


def test_the_detector_stays_as_it_was() -> None:
    detector = ready(TWO_STAGE)
    before = {name: value.clone() for name, value in detector.state_dict().items()}

    export_detector(detector, DESCRIPTION)

    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_exports_of_the_same_weights_are_the_same_file() -> None:
    assert exported(TWO_STAGE) == export_detector(ready(TWO_STAGE), DESCRIPTION)


@some
def test_another_detector_of_an_architecture_is_not_traced_again(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ready(arch), build(arch, constants=replace(CONSTANTS, score_threshold=0.21)).eval()
    spread_predictions(second)
    with torch.no_grad():
        for weight in second.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    expected = export_detector(second, DESCRIPTION)
    exporter = Exporter()

    assert exporter.export(decode(arch), first, DESCRIPTION) == exported(arch)
    monkeypatch.setattr(onnx_file, "traced", None)
    assert exporter.export(decode(arch), second, DESCRIPTION) == expected


def test_few_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[nn.Module] = []

    def graph_of(detector: nn.Module) -> bytes:
        traced.append(detector)
        return b""

    monkeypatch.setattr(onnx_file, "KEPT_GRAPHS", 2)
    monkeypatch.setattr(onnx_file, "graph_of", graph_of)
    monkeypatch.setattr(onnx_file, "filled", lambda *_: b"")
    exporter, detectors = Exporter(), [nn.Module() for _ in range(3)]
    archs = [f"64x{short}.resnet18-w4.fpn-p3-p5-c8.none.retina" for short in (64, 48, 32)]

    for number in (0, 1, 0, 2, 0, 1):
        exporter.export(decode(archs[number]), detectors[number], DESCRIPTION)  # type: ignore[arg-type]

    assert traced == [detectors[number] for number in (0, 1, 2, 1)]


def test_the_archs_have_all_kinds() -> None:
    assert len(PAIRS) == 9
    assert len(ARCHS) == 9
    assert np.unique([*PAIRS.values(), *ARCHS.values()]).size == 18
