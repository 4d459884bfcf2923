from __future__ import annotations

import json
import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smnas_optuna.arch import InputSize
from smnas_optuna.benchmark.detectors import our_detector
from smnas_optuna.benchmark.images import drawn_images
from smnas_optuna.benchmark.request import BenchmarkRequest
from smnas_optuna.benchmark.run import Benchmark, _baseline_sizes, _measure_all, run_benchmark
from smnas_optuna.benchmark.setup import BenchmarkSetup
from smnas_optuna.config import LatencySettings, load_settings
from smnas_optuna.engine.checkpoint import save_weights
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.errors import ArchError, ConfigError, DataError, DeviceError, OutOfMemoryError, SmnasError, StudyError
from smnas_optuna.models import REFERENCE_DETECTORS, Detector
from smnas_optuna.report.tables import strict
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

ONE_STAGE = "64x48.resnet18-w4.fpn-p4-p5-c4.none.retina"
TWO_STAGE = "32x32.resnet18-w4.fpn-p4-p5-c4.rpn.fc-w8"
QUICK = LatencySettings(images=32, precision=0.9, max_seconds=0.2)


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, phase: str, done: int, total: int) -> None:
        self.steps.append((phase, done, total))


def run(listener: Listener | None = None, **asked: object) -> Benchmark:
    request = replace(BenchmarkRequest(device="cpu", latency=QUICK), **asked)  # type: ignore[arg-type]
    return run_benchmark(request, listener=listener or Listener(), stop=StopRequest())


@pytest.mark.slow
def test_every_detector_is_a_row_and_the_first_is_the_reference() -> None:
    notes = Notes()

    benchmark = run(notes, archs=(ONE_STAGE, TWO_STAGE, ONE_STAGE))

    assert [row.timed.name for row in benchmark.rows] == [ONE_STAGE, TWO_STAGE]
    assert benchmark.reference == ONE_STAGE
    for row in benchmark.rows:
        latency = row.latency
        assert 0 < latency.ratio_low <= latency.ratio <= latency.ratio_high
        assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms
        assert latency.network_ms > 0
        parameters = row.timed.build().parameters()
        assert row.complexity is not None
        assert row.complexity.num_params == sum(parameter.numel() for parameter in parameters)
        assert row.complexity.multiply_adds > 0
    assert [note.split(":")[0] for note in notes.notes] == [ONE_STAGE, TWO_STAGE]
    assert [step for step in notes.steps if step[0] == "latency"] == [("latency", 0, 2), ("latency", 1, 2)]
    assert (benchmark.num_classes, benchmark.source) == (80, "32 drawn scenes at each input size")


@pytest.mark.slow
def test_a_faster_detector_than_the_reference_has_a_ratio_below_one() -> None:
    large = "128x96.resnet50-w16.fpn-p2-p5-c32.rpn.fc-w64"

    benchmark = run(archs=(large, ONE_STAGE))

    assert benchmark.reference == large
    assert benchmark.rows[1].latency.ratio_high < 1
    assert benchmark.rows[1].latency.median_ms < benchmark.rows[1].latency.reference_median_ms


@pytest.mark.slow
def test_its_json_has_all_numbers_and_how_they_came_about() -> None:
    values = json.loads(json.dumps(strict(run(archs=(ONE_STAGE,)).as_json()), allow_nan=False))

    (row,) = values["rows"]
    assert row.keys() == {
        *("name", "arch", "input_size", "weights", "score_threshold", "runtime"),
        *("num_params", "multiply_adds", "latency"),
    }
    assert (row["arch"], row["input_size"], row["weights"], row["score_threshold"]) == (ONE_STAGE, "64x48", "random", 0)
    assert {"ratio", "ratio_low", "ratio_high", "median_ms", "p10_ms", "p90_ms", "network_ms"} <= row["latency"].keys()
    assert values["protocol"] == {
        "batch_size": 1,
        "precision": "float32",
        "images": "32 drawn scenes at each input size",
        "num_classes": 80,
        "latency": {"images": 32, "precision": 0.9, "max_seconds": 0.2},
    }
    assert values["device"] == describe_device(torch.device("cpu"))
    assert values["versions"] == library_versions()


@pytest.mark.slow
def test_a_study_brings_its_data_settings_and_weights(study_dir: Path) -> None:
    torch.manual_seed(0)
    save_weights(StudyFolder(study_dir).run(TWO_STAGE), our_detector(TWO_STAGE, 10, torch.device("cpu")).build(), {})

    benchmark = run(archs=(ONE_STAGE, TWO_STAGE), study_dir=study_dir)

    assert [row.timed.weights for row in benchmark.rows] == ["random", "trained"]
    assert [row.timed.score_threshold for row in benchmark.rows] == [0.0, 0.01]
    assert benchmark.source == f"4 validation images of {study_dir}/data"
    assert benchmark.num_classes == 10
    assert benchmark.settings.images == load_settings(study_dir).latency.images == 4
    assert benchmark.settings.max_seconds == load_settings(study_dir).latency.max_seconds
    assert not (study_dir / "study.db").exists()


@pytest.mark.slow
def test_a_data_folder_brings_images_and_classes(study_dir: Path, tmp_path: Path) -> None:
    run(archs=(ONE_STAGE,), study_dir=study_dir)  # draws them
    data = shutil.move(study_dir / "data", tmp_path / "data")

    benchmark = run(archs=(ONE_STAGE,), data_dir=Path(data))

    assert (benchmark.num_classes, benchmark.source) == (10, f"12 images of {data}/instances_val.json (val)")


@pytest.mark.nightly
def test_torchvisions_detectors_are_timed_beside_ours() -> None:
    benchmark = run(archs=(ONE_STAGE,), baselines=True, sizes="64x64")

    assert [row.timed.name for row in benchmark.rows] == [
        ONE_STAGE,
        *(f"64x64.{name}" for name in REFERENCE_DETECTORS),
    ]
    ours, *theirs = benchmark.rows
    assert all(row.latency.ratio_low > 1 for row in theirs)
    assert all(math.isfinite(row.latency.network_ms) for row in theirs)
    work = [row.complexity.multiply_adds for row in (ours, *theirs) if row.complexity is not None]
    assert all(each > work[0] for each in work[1:])
    assert len(work) == len(benchmark.rows)


def test_without_sizes_torchvisions_detectors_have_those_of_ours() -> None:
    square, wide = InputSize(long=64, short=64), InputSize(long=96, short=64)
    request = BenchmarkRequest(baselines=True)

    assert _baseline_sizes(request, [wide, square, wide]) == [wide, square]
    assert _baseline_sizes(request, []) == [InputSize(long=1333, short=800)]
    assert _baseline_sizes(replace(request, sizes="96x64"), [square]) == [wide]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, ConfigError, "there is nothing to time\n  fix: name architectures, such as sm_nas_e2, or add --baselines"),
        (
            {"archs": (ONE_STAGE,), "sizes": "64x64"},
            ConfigError,
            "--sizes 64x64: nothing is timed at these sizes, as an architecture has its own\n  fix: add --baselines",
        ),
        (
            {"archs": (ONE_STAGE,), "runtimes": ("eager", "graph")},
            DeviceError,
            "runtime graph: there are no CUDA graphs on the device cpu\n  fix: use onnxruntime",
        ),
        ({"baselines": True, "sizes": "64"}, ArchError, "--sizes 64: input size '64' cannot be read\n  fix: "),
        ({"archs": ("sm_nas_e9",)}, ArchError, "architecture 'sm_nas_e9': no detector has this name\n  fix: take one"),
        ({"archs": ("64x48.a.b",)}, ArchError, "architecture '64x48.a.b': 3 modules instead of 5\n  fix: "),
        (
            {"archs": (ONE_STAGE,), "data_dir": Path("nowhere")},
            DataError,
            "nowhere: there is no such folder\n  fix: name the data folder: --data DIR",
        ),
        (
            {"archs": (ONE_STAGE,), "study_dir": Path("nowhere")},
            StudyError,
            "nowhere: there is no such folder\n  fix: name a folder that holds a study.toml",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict | type) else value.split("\n")[0],
)
def test_what_cannot_be_timed_is_refused(asked: dict[str, object], error: type[SmnasError], message: str) -> None:
    with pytest.raises(error) as refusal:
        run(**asked)  # type: ignore[arg-type]

    assert str(refusal.value).startswith(message)


def test_a_detector_that_does_not_fit_is_named() -> None:
    def too_large() -> Detector:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    fits = our_detector(ONE_STAGE, 3, torch.device("cpu"))
    large = replace(fits, name="large", build=too_large)
    with drawn_images(3, torch.device("cpu"), lambda *_: None) as images:
        setup = BenchmarkSetup(images=images, timed=lambda _: fits, settings=QUICK)
        for timed in ([fits, large], [large]):
            with pytest.raises(OutOfMemoryError) as refusal:
                _measure_all(timed, setup, Listener(), StopRequest())

            assert str(refusal.value).startswith("large: out of memory: 2,048.0 MiB more were asked for")
            assert str(refusal.value).endswith("fix: leave it out, or take a smaller size")


@pytest.mark.slow
def test_it_stops_when_asked_and_has_told_what_was_measured() -> None:
    stop = StopRequest()

    class Stopping(Notes):
        def note(self, text: str) -> None:
            super().note(text)
            stop.ask(signal.SIGINT)

    notes = Stopping()
    request = BenchmarkRequest(archs=(ONE_STAGE, TWO_STAGE), device="cpu", latency=QUICK)

    with pytest.raises(Interrupted):
        run_benchmark(request, listener=notes, stop=stop)

    assert len(notes.notes) == 1
