from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.errors import FileError
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Runtime
from smnas_optuna.stopwatch.images import image_paths, read_images
from smnas_optuna.stopwatch.measure import Conditions, as_json, describe_device, measure_files

from ..runtime.exported_files import DESCRIPTION, make_model
from .conftest import REFERENCE

QUICK = Conditions(precision=0.5, max_seconds=0.05)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_one_file_is_timed_against_another(runtime: Runtime, file: Path, reference: Path, folder: Path) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    mine, its = DetectorFile.read(file), DetectorFile.read(reference)
    images, steps = read_images(image_paths(folder), 16), list[None]()
    conditions = Conditions(runtime=runtime, precision=0.5, max_seconds=0.05)

    stats = measure_files(mine, its, images, conditions, on_step=lambda: steps.append(None))

    assert 0 < stats.ratio_low <= stats.ratio <= stats.ratio_high
    assert 0 < stats.p10_ms <= stats.median_ms <= stats.p90_ms
    assert len(steps) > 2 * stats.num_runs >= 2 * stats.num_blocks >= 12
    values = json.loads(json.dumps(as_json(stats, mine, its, conditions, num_images=4)))
    assert (values["arch"], values["reference"]) == (DESCRIPTION.arch, REFERENCE.arch)
    assert (values["sha256"], values["images"]) == (mine.sha256, 4)
    assert values["conditions"]["runtime"] == runtime
    assert values["runtime"].startswith(f"{runtime} ")


def test_a_file_against_itself_has_a_ratio_of_about_one(file: Path) -> None:
    mine = DetectorFile.read(file)
    images = [np.zeros((480, 640, 3), np.uint8)]

    stats = measure_files(mine, mine, images, Conditions(precision=0.05, max_seconds=1, acceptable=1))

    assert stats.ratio == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(("asked", "parts"), [(True, {"backbone": 1.0}), (False, None)])
def test_the_parts_are_told_if_they_are_asked_for(
    asked: bool, parts: dict[str, float] | None, named: Path, reference: Path
) -> None:
    mine, its = DetectorFile.read(named), DetectorFile.read(reference)
    conditions = Conditions.of({**asdict(QUICK), "parts": asked})

    stats = measure_files(mine, its, [np.zeros((48, 64, 3), np.uint8)], conditions)

    assert stats.parts == parts
    assert json.loads(json.dumps(as_json(stats, mine, its, conditions, num_images=1)))["parts"] == parts


def test_a_file_that_cannot_be_run_is_named(reference: Path) -> None:
    model = make_model()
    model.graph.node[0].op_type = "Detect"
    broken = DetectorFile.of(model.SerializeToString(), "broken.onnx")

    with pytest.raises(FileError, match=r"^broken\.onnx: ONNX Runtime .* cannot load it: "):
        measure_files(broken, DetectorFile.read(reference), [np.zeros((9, 9, 3), np.uint8)], QUICK)


def test_the_device_is_described() -> None:
    described = describe_device()

    assert set(described) == {"host", "processor", "cores", "system", "python"}
    assert described["cores"] >= 1
