"""A detector that is exported and run without torch, beside the one that torch runs, on drawn images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna import load_detector, load_exported
from smnas_optuna.api.detector import TrainedDetector
from smnas_optuna.export.onnx_file import export_detector
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.runtime.names import Runtime

from ..api.api_folders import keep_detector
from ..models.tiny_detectors import ONE_STAGE, TWO_STAGE
from .without_torch import WITHOUT_TORCH


def _export(detector: TrainedDetector, path: Path) -> Path:
    description = FileDescription(
        arch=detector.arch,
        classes=tuple(detector.classes),
        long=detector.module.long,
        short=detector.module.short,
        precision="fp32",
        constants=detector.description["constants"],
    )
    path.write_bytes(export_detector(detector.module, description))
    return path


def _assert_same(mine: Detections, its: Detections) -> None:
    """The same objects, but for the order of those whose scores are nearly equal."""
    assert len(mine) == len(its)
    np.testing.assert_allclose(mine.scores, its.scores, atol=1e-4)
    near = (np.abs(mine.boxes[:, None] - its.boxes) <= 0.02).all(-1)
    alike = near & (mine.labels[:, None] == its.labels) & (np.abs(mine.scores[:, None] - its.scores) <= 1e-4)
    sure = its.scores > its.scores.min() + 1e-4  # the last slots may hold any of several equal ones
    assert alike.any(0)[sure].all()


@pytest.mark.parametrize(
    ("arch", "runtime"),
    [
        (ONE_STAGE, "onnxruntime"),
        pytest.param(TWO_STAGE, "onnxruntime", marks=pytest.mark.slow),
        pytest.param(ONE_STAGE, "openvino", marks=pytest.mark.slow),
    ],
)
def test_what_is_exported_finds_what_torch_finds(arch: str, runtime: Runtime, drawn: Path, tmp_path: Path) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    detector = load_detector(keep_detector(tmp_path / "run", arch), device="cpu")
    predictor = load_exported(_export(detector, tmp_path / "detector.onnx"), runtime, num_threads=1)
    images = sorted(drawn.rglob("*.png"))[:8]
    assert images

    found = 0
    for image in images:
        mine, its = predictor.predict(image), detector.predict(image)
        _assert_same(mine, its)
        assert sorted(mine.names) == sorted(its.names)
        found += len(mine)

    assert found > len(images)
    assert predictor.classes == ("cat", "dog", "bird")


@pytest.mark.slow
def test_it_is_timed_where_there_is_no_torch(drawn: Path, tmp_path: Path) -> None:
    files = [
        str(_export(load_detector(keep_detector(tmp_path / arch, arch), device="cpu"), tmp_path / f"{arch}.onnx"))
        for arch in (ONE_STAGE, TWO_STAGE)
    ]
    folder = next(iter(drawn.rglob("*.png"))).parent
    command = ["from smnas_optuna.stopwatch.command import main", "sys.exit(main(sys.argv[1:]))"]
    arguments = [*files, "--images", str(folder), "--threads", "1", "--max-seconds", "0.2"]

    run = subprocess.run(
        [sys.executable, "-c", "\n".join([WITHOUT_TORCH, *command]), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{ONE_STAGE}: ")
    assert f"\nreference {TWO_STAGE}: " in run.stdout
