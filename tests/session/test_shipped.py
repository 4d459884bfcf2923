"""A detector as it would ship finds what the detector finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smnas_optuna.arch import decode
from smnas_optuna.config import Runtime
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.shipped import FileDetector, as_shipped, prepare_for
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

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
        assert len(its["scores"]) > 0
        torch.testing.assert_close(mine["scores"], its["scores"], rtol=0, atol=1e-4)
        best = its["scores"] > its["scores"][-1] + 1e-3  # the order of equal ones is open
        torch.testing.assert_close(mine["boxes"][best], its["boxes"][best], rtol=0, atol=0.05)
        assert torch.equal(mine["labels"][best], its["labels"][best])
