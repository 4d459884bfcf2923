from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from optuna.samplers import RandomSampler

from smnas_optuna import load_detector
from smnas_optuna.arch import decode
from smnas_optuna.engine.checkpoint import DETECTOR_FILE, save_weights
from smnas_optuna.errors import FileError, SmnasError, StudyError
from smnas_optuna.export import export_detector
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.predictor import load_exported
from smnas_optuna.session.description import describe_detector
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.trained import read_trained
from smnas_optuna.ship.request import ShipRequest
from smnas_optuna.ship.run import Shipped, prove, ship
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.choice import Pick, choose
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

from ..models.tiny_detectors import spread_predictions
from ..runtime.exported_files import DESCRIPTION

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"


def session_of(study_dir: Path) -> Session:
    return prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu")


@pytest.fixture(scope="module")
def stored(drawn: Path) -> Path:
    """A study folder with a detector of varied predictions in its runs, as if it had been trained; made once."""
    session = session_of(drawn)
    with torch.random.fork_rng():
        detector = session.testbed.build(decode(ARCH), 0)
    spread_predictions(detector)
    latency = {"latency_ms": 12.5, "latency": {"runtime": "eager"}}
    save_weights(drawn / "runs" / ARCH, detector, describe_detector(session.testbed, ARCH, latency))
    return drawn


@pytest.fixture
def runs_dir(stored: Path, drawn_dir: Path) -> Path:
    """A copy of it."""
    return drawn_dir


def request_of(study_dir: Path, output: Path, **options: Any) -> ShipRequest:
    return ShipRequest(study_dir=study_dir, output=output, **options)


def shipped(request: ShipRequest) -> Shipped:
    choice = choose(StudyFolder(request.study_dir), Pick(arch=ARCH), [])
    return ship(request, choice, listener=Listener(), stop=StopRequest())


def test_a_file_is_proved_and_written_with_its_description(runs_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.onnx"

    done = shipped(request_of(runs_dir, output))

    assert (done.path, done.num_bytes, done.images, done.trial) == (output, output.stat().st_size, 12, None)
    assert done.agreement.equal == done.agreement.compared > 100
    assert done.agreement.box_px < 1e-3
    assert done.file_ap == pytest.approx(done.detector_ap, abs=1e-3)
    assert done.pace.ms > 0
    description = DetectorFile.read(output).description
    assert (description.arch, description.precision, description.ap) == (ARCH, "fp32", done.file_ap)
    assert (description.long, description.short) == (64, 64)
    assert description.latency["ms"] == 12.5
    assert description.latency["runtime"] == "eager"
    assert set(description.latency) == {"ms", "runtime", "device", "versions"}
    assert description.constants["score_threshold"] == 0.01
    assert description.data != ""
    assert list(tmp_path.glob("*.part")) == []


def test_thresholds_of_the_detector_go_into_the_file(runs_dir: Path, tmp_path: Path) -> None:
    about = runs_dir / "runs" / ARCH / DETECTOR_FILE
    values = json.loads(about.read_text())
    thresholds = {name: number / 20 for number, name in enumerate(values["classes"])}
    about.write_text(json.dumps({**values, "thresholds": thresholds}))

    shipped(request_of(runs_dir, tmp_path / "a.onnx"))

    assert DetectorFile.read(tmp_path / "a.onnx").description.thresholds == thresholds


def test_the_file_finds_what_the_detector_finds_in_an_image_file(runs_dir: Path, tmp_path: Path) -> None:
    shipped(request_of(runs_dir, tmp_path / "a.onnx"))
    detector, predictor = load_detector(runs_dir / "runs" / ARCH), load_exported(tmp_path / "a.onnx")
    compared = 0
    for image in sorted((runs_dir / "data" / "images").glob("*"))[:5]:
        expected, found = detector.predict(image), predictor.predict(image)

        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        assert found.names == expected.names
        compared += len(found)
    assert compared > 0


def test_a_file_of_other_weights_is_refused(runs_dir: Path) -> None:
    session, trained = session_of(runs_dir), read_trained(runs_dir / "runs" / ARCH)
    other = read_trained(runs_dir / "runs" / ARCH).module
    with torch.no_grad():
        other.get_parameter("head.roi_head.stages.0.1.cls_score.bias")[1] += 0.01
    content = export_detector(other, replace(DESCRIPTION, arch=ARCH))

    with pytest.raises(
        FileError, match=r"of [\d,]+ detections in 12 validation images the file finds [\d,]+, with boxes"
    ):
        prove(session, trained, content)


def test_data_with_other_classes_is_refused_and_no_file_is_left(runs_dir: Path, tmp_path: Path) -> None:
    description = runs_dir / "runs" / ARCH / DETECTOR_FILE
    values = json.loads(description.read_text())
    description.write_text(json.dumps({**values, "classes": values["classes"][::-1]}))
    output = tmp_path / "a.onnx"

    with pytest.raises(StudyError, match="in another order"):
        shipped(request_of(runs_dir, output))

    assert not output.exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_made_beside_other_data_states_nothing_that_it_does_not_know(
    runs_dir: Path, tmp_path: Path, precision: str
) -> None:
    session = session_of(runs_dir)
    study = session.folder.create("structural", RandomSampler())
    study.set_user_attr(FINGERPRINT, {**session.depends_on, "data": {**session.depends_on["data"], "content": "f00"}})
    output = tmp_path / "a.onnx"

    shipped(request_of(runs_dir, output, precision=precision, allow_loss=True))

    description = DetectorFile.read(output).description
    assert (description.ap, description.data) == (None, "")


@pytest.mark.parametrize(
    ("place", "match"),
    [
        (lambda path: path / "missing" / "a.onnx", "there is no folder"),
        (lambda path: path, "something else of this name"),
        (lambda path: _link(path / "link"), "something else of this name"),
    ],
    ids=["no folder", "a folder", "a link"],
)
def test_an_output_that_cannot_be_written_is_refused_first(
    runs_dir: Path, tmp_path: Path, place: Any, match: str
) -> None:
    with pytest.raises(FileError, match=match):
        shipped(request_of(runs_dir, place(tmp_path)))


def _link(path: Path) -> Path:
    path.symlink_to("elsewhere")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_lower_precision_is_compared_with_fp32(runs_dir: Path, tmp_path: Path, precision: str) -> None:
    output = tmp_path / "a.onnx"
    request = request_of(runs_dir, output, precision=precision, allow_loss=True)

    done = shipped(request)

    assert done.trial is not None
    assert done.trial.fp32_ap == done.file_ap
    description = DetectorFile.read(output).description
    assert (description.precision, description.ap) == (precision, done.trial.ap)
    assert description.latency == {}, "what the study measured is that of fp32"
    kinds = {node.op_type for node in onnx.load(output).graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    assert ("Cast" in kinds) or precision == "int8"


@pytest.mark.slow
def test_a_lower_precision_that_does_not_pay_leaves_no_file(runs_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.onnx"

    # 16-bit floats are converted back and forth on a CPU
    with pytest.raises(SmnasError, match=r"fp16: AP .* it is no faster on this machine|fp16: AP .* it loses"):
        shipped(request_of(runs_dir, output, precision="fp16"))

    assert not output.exists()
