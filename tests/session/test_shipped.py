"""A detector as it would ship finds what the detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

from smnas_optuna.arch import decode
from smnas_optuna.config import Runtime
from smnas_optuna.runtime.names import Inputs
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.shipped import FileDetector, as_shipped, prepare_for
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest
from tests.engine.engine_fakes import make_batch

ARCH = "32x32.resnet18-w4.fpn-p3-p5-c8.rpn.fc-w16"


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime", "openvino"])
def test_it_detects_the_same(drawn_dir: Path, runtime: Runtime) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    testbed = prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    spec = decode(ARCH)
    detector, images = testbed.build(spec, 0, score_threshold=0.0).eval(), testbed.timed_images(spec.input_size)

    shipped = as_shipped(detector, runtime, 2)
    prepare_for(shipped, images)

    assert isinstance(shipped, FileDetector) == (runtime != "eager")
    for batch in images:
        with torch.inference_mode():
            (mine,), (its,) = shipped.detect(batch), detector.detect(batch)  # type: ignore[operator]
        # Of many random boxes a runtime may drop one more, whose overlap is the threshold but for rounding.
        assert abs(len(mine["scores"]) - len(its["scores"])) <= 1
        overlaps = box_iou(its["boxes"], mine["boxes"]) * (its["labels"][:, None] == mine["labels"])
        best, at = overlaps.max(dim=1)
        same = (best > 0.99) & ((its["scores"] - mine["scores"][at]).abs() < 1e-4)
        assert same.sum() >= len(its["scores"]) - 1 > 0


@pytest.mark.parametrize(("portraits", "canvas"), [(1, "landscape"), (2, "portrait")])
def test_parts_are_those_on_the_canvas_of_most_images(portraits: int, canvas: str) -> None:
    class Told:
        def __init__(self, portrait: bool) -> None:
            self.name = "portrait" if portrait else "landscape"

        def parts(self, inputs: Sequence[Inputs], *_: object) -> dict[str, float]:
            return {self.name: float(len(inputs))}

    shapes = [(64, 48)] * portraits + [(48, 64)] * (3 - portraits)
    images = [make_batch(torch.zeros(1, 3, *shape), [0]) for shape in shapes]

    assert FileDetector(lambda portrait: Told(portrait)).parts(images, lambda: None) == {canvas: 3.0}  # type: ignore[arg-type, return-value]
