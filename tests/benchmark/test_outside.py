"""A detector from outside in a benchmark: its images, its row, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smnas_optuna.batch import Batch
from smnas_optuna.benchmark.outside import read_outsider
from smnas_optuna.benchmark.outside_detector import OutsideDetector
from smnas_optuna.benchmark.request import BenchmarkRequest, check_request
from smnas_optuna.benchmark.run import run_benchmark
from smnas_optuna.errors import ConfigError, DeviceError
from smnas_optuna.report.tables import strict
from smnas_optuna.runtime.any_file import AnyFile
from smnas_optuna.runtime.canvas import MEAN_COLOUR
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import StopRequest

from ..runtime.any_files import write_onnx

ARCH = "64x48.resnet18-w4.fpn-p4-p5-c4.none.retina"
CPU = torch.device("cpu")


def batch(height: int, width: int) -> Batch:
    """One image of that size on a canvas of a multiple of 32, each pixel another."""
    images = torch.full((1, 3, 96, 96), 7, dtype=torch.uint8)
    images[:, :, :height, :width] = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    empty = torch.zeros(1, 0, dtype=torch.int64)
    return Batch(
        images=images,
        boxes=torch.zeros(1, 0, 4),
        labels=empty,
        crowd=empty.bool(),
        num_boxes=torch.zeros(1, dtype=torch.int64),
        image_ids=torch.ones(1, dtype=torch.int64),
        sizes=torch.tensor([[height, width]]),
        original_sizes=torch.tensor([[480, 640]]),
        seeds=torch.zeros(1, dtype=torch.int64),
    )


@pytest.fixture
def detector(tmp_path: Path) -> OutsideDetector:
    return OutsideDetector(AnyFile.read(write_onnx(tmp_path / "a.onnx"), num_threads=1))


def test_an_image_that_fits_lies_as_it_is_in_the_upper_left_corner(detector: OutsideDetector) -> None:
    given = batch(40, 53)
    (fitted,) = detector.fitted([given])

    assert fitted.images.shape == (1, 3, 40, 64)
    assert torch.equal(fitted.images[..., :53], given.images[:, :, :40, :53])
    assert torch.equal(fitted.images[0, :, :, 53:], torch.tensor(MEAN_COLOUR)[:, None, None].expand(3, 40, 11).byte())
    assert float(detector.detect(fitted)[0]) == pytest.approx(int(fitted.images.max()) / 255)  # type: ignore[index]


def test_a_portrait_is_made_smaller_and_keeps_its_aspect_ratio(detector: OutsideDetector) -> None:
    (fitted,) = detector.fitted([batch(64, 40)])

    assert fitted.images.shape == (1, 3, 40, 64)
    assert fitted.sizes.tolist() == [[40, 25]]
    assert (fitted.images[0, :, :, 25:] == torch.tensor(MEAN_COLOUR)[:, None, None]).all()


def test_the_file_names_the_row(tmp_path: Path) -> None:
    outsider = read_outsider(write_onnx(tmp_path / "yolo\x1b.onnx"), CPU, taken=[], differs=None)

    assert outsider.timed.name == "yolo\N{REPLACEMENT CHARACTER}"
    assert (str(outsider.timed.input_size), outsider.timed.weights) == ("64x40", "given")
    assert outsider.input == "1x3x40x64 tensor(float)"


def test_it_needs_a_name_of_its_own_and_a_cpu(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "a.onnx")

    with pytest.raises(ConfigError, match=r"another detector is called a\n  fix: give the file another name"):
        read_outsider(path, CPU, taken=["a"], differs=None)
    with pytest.raises(DeviceError, match=r"the device of this benchmark is cuda\n  fix: .* --device cpu"):
        read_outsider(path, torch.device("cuda"), taken=[], differs=None)


def test_it_is_timed_beside_a_study_alone() -> None:
    request = BenchmarkRequest(onnx=Path("a.onnx"))

    with pytest.raises(ConfigError, match=r"--onnx a.onnx: .*\n  fix: name the study: --study STUDY_DIR"):
        check_request(request)
    check_request(replace(request, study_dir=Path("study")))


@pytest.mark.slow
def test_all_ratios_are_to_the_studys_reference(drawn_dir: Path, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "tiny.onnx", (1, 3, 64, 64))
    request = BenchmarkRequest(archs=(ARCH,), study_dir=drawn_dir, device="cpu", onnx=path)

    benchmark = run_benchmark(request, listener=Listener(), stop=StopRequest())

    assert [row.timed.name for row in benchmark.rows] == ["the study's reference", ARCH, "tiny"]
    assert benchmark.reference == "the study's reference"
    last = benchmark.rows[-1]
    assert last.timed.runtime == "onnxruntime"
    assert last.latency.ratio_high < 1
    assert benchmark.outsider is not None
    assert benchmark.outsider.differs is None
    values = json.loads(json.dumps(strict(benchmark.as_json()), allow_nan=False))
    assert values["outsider"]["input"] == "1x3x64x64 tensor(float)"
    assert values["rows"][-1]["num_params"] is None
    assert len(values["outsider"]["sha256"]) == 64
