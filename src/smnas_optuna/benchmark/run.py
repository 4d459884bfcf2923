"""Detectors timed side by side in one run: ours, torchvision's beside them, and one from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from smnas_optuna.arch import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.benchmark.detectors import (
    TORCHVISION_SIZE,
    TimedDetector,
    in_each,
    parse_sizes,
    torchvision_detectors,
)
from smnas_optuna.benchmark.outside import Outsider, read_outsider
from smnas_optuna.benchmark.outside_detector import OutsideDetector
from smnas_optuna.benchmark.request import BenchmarkRequest, check_request
from smnas_optuna.benchmark.setup import BenchmarkSetup, prepared
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.complexity import Complexity, count_complexity
from smnas_optuna.engine.cpu_watch import CpuWatch
from smnas_optuna.engine.device import (
    choose_device,
    describe_device,
    explained_device_faults,
    explained_out_of_memory,
    library_versions,
)
from smnas_optuna.engine.gpu_watch import GpuWatch, watch_gpu
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.models import Detector, ReferenceDetector
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.runtimes import choose_runtime
from smnas_optuna.session.shipped import as_shipped, prepare_for
from smnas_optuna.session.timing import measure_alone
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow:
    """A detector and its measurements; what a file from outside computes is not counted."""

    timed: TimedDetector
    complexity: Complexity | None
    latency: LatencyStats


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Results of one benchmark run.

    Attributes:
        rows: Rows in the requested order. All ratios are to the first one. Its own ratio is that of the detector to
            itself, and shows how far the machine can be trusted.
        source: Origin of the images in words.
        num_classes: Number of foreground classes of all detectors.
        settings: Settings of the measurement.
        device: Description from :func:`smnas_optuna.engine.device.describe_device`.
        versions: Versions of the libraries.
        outsider: The ONNX file, if there is one; its row is the last.
    """

    rows: Sequence[BenchmarkRow]
    source: str
    num_classes: int
    settings: LatencySettings
    device: Mapping[str, Any]
    versions: Mapping[str, str]
    outsider: Outsider | None = None

    @property
    def reference(self) -> str:
        """Name of the row that all ratios are to."""
        return self.rows[0].timed.name

    @property
    def weights(self) -> set[str]:
        """Kinds of weights among the rows."""
        return {row.timed.weights for row in self.rows}

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values, apart from floats that are no numbers (NaN)."""
        return {
            "reference": self.reference,
            "rows": [_entry(row) for row in self.rows],
            "protocol": {
                "batch_size": 1,
                "precision": "float32",
                "images": self.source,
                "num_classes": self.num_classes,
                "latency": self.settings.model_dump(mode="json", exclude={"reference", "noise", "runtime", "device"}),
            },
            "device": dict(self.device),
            "versions": dict(self.versions),
            **({} if self.outsider is None else {"outsider": _file_entry(self.outsider)}),
        }


def run_benchmark(request: BenchmarkRequest, *, listener: Listener, stop: StopRequest) -> Benchmark:
    """Time every detector that ``request`` asks for, one after the other, in alternation with the first.

    Args:
        request: The user's request.
        listener: Receives each detector when it is measured, so that a later failure loses none of the earlier ones.
        stop: Checked after each run of a detector.

    Raises:
        SmnasError: If something in ``request`` is not there, cannot be used, or does not fit into memory.
        Interrupted: If asked to stop.
    """
    check_request(request)
    device = choose_device(request.device)
    asked = [choose_runtime(choice, device) for choice in dict.fromkeys(request.runtimes)]
    with prepared(request, device, listener, stop) as setup, explained_device_faults(device):
        runtimes = asked or [setup.runtime]
        ours = [setup.timed(name) for name in dict.fromkeys(request.archs)]
        timed_detectors = in_each(ours, runtimes)
        if request.baselines:
            sizes = _baseline_sizes(request, [each.input_size for each in ours])
            theirs = torchvision_detectors(sizes, setup.images.num_classes, device)
            # torchvision's cannot be recorded as graphs
            timed_detectors += in_each(theirs, ["eager" if runtime == "graph" else runtime for runtime in runtimes])
        outsider = None
        if request.onnx is not None:
            assert setup.reference is not None
            timed_detectors.insert(0, setup.reference)
            names = [each.name for each in timed_detectors]
            outsider = read_outsider(request.onnx, device, taken=names, differs=setup.differs)
            timed_detectors.append(outsider.timed)
        return Benchmark(
            rows=_measure_all(timed_detectors, setup, listener, stop),
            source=setup.images.source,
            num_classes=setup.images.num_classes,
            settings=setup.settings,
            device=describe_device(device),
            versions=library_versions(),
            outsider=outsider,
        )


def _measure_all(
    timed_detectors: Sequence[TimedDetector],
    setup: BenchmarkSetup,
    listener: Listener,
    stop: StopRequest,
) -> list[BenchmarkRow]:
    reference = timed_detectors[0]
    with _explained(reference):
        its = _shipped(reference, reference.build(), setup)
    measurement_lock, rows = MeasurementLock(note=listener.note), []
    watches = CpuWatch(note=listener.note), watch_gpu(its[1][0].images.device, note=listener.note)
    for number, timed in enumerate(timed_detectors):
        listener.step("latency", number, len(timed_detectors))
        with _explained(timed):
            row = _measure(timed, its, setup, measurement_lock, watches, stop.check)
        listener.note(f"{timed.name}: {row.latency.median_ms:.2f} ms, ratio {row.latency.ratio:.4f}")
        rows.append(row)
    return rows


def _measure(
    timed: TimedDetector,
    reference: tuple[nn.Module, list[Batch]],
    setup: BenchmarkSetup,
    measurement_lock: MeasurementLock,
    watches: tuple[CpuWatch, GpuWatch],
    on_step: Callable[[], None],
) -> BenchmarkRow:
    size, detector, complexity = timed.input_size, timed.build(), None
    if not isinstance(detector, OutsideDetector):
        complexity = count_complexity(detector, long=size.long, short=size.short)
    shipped, images = _shipped(timed, detector, setup)
    latency = measure_alone(
        measurement_lock, watches, shipped, images, reference, setup.settings, on_step=on_step, with_parts=True
    )
    return BenchmarkRow(timed=timed, complexity=complexity, latency=latency)


def _shipped(
    timed: TimedDetector, detector: Detector | ReferenceDetector | OutsideDetector, setup: BenchmarkSetup
) -> tuple[nn.Module, list[Batch]]:
    """Return the detector as it would ship, and the images that it is timed on."""
    images = setup.images.at(timed.input_size)
    if isinstance(detector, OutsideDetector):
        return detector, detector.fitted(images)
    shipped = as_shipped(detector, timed.runtime)
    prepare_for(shipped, images)
    return shipped, images


@contextmanager
def _explained(timed: TimedDetector) -> Iterator[None]:
    """Name the detector in errors about too little memory."""
    try:
        with explained_out_of_memory():
            yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(f"{timed.name}: {error.message}", fix="leave it out, or take a smaller size") from None


def _baseline_sizes(request: BenchmarkRequest, ours: Sequence[InputSize]) -> list[InputSize]:
    if request.sizes is not None:
        return parse_sizes(request.sizes)
    return list(dict.fromkeys(ours)) or [TORCHVISION_SIZE]


def _file_entry(outsider: Outsider) -> dict[str, Any]:
    return {
        "name": outsider.timed.name,
        "sha256": outsider.sha256,
        "input": outsider.input,
        "differs": outsider.differs,
    }


def _entry(row: BenchmarkRow) -> dict[str, Any]:
    timed = row.timed
    return {
        "name": timed.name,
        "arch": timed.arch,
        "input_size": str(timed.input_size),
        "weights": timed.weights,
        "score_threshold": timed.score_threshold,
        "runtime": timed.runtime,
        **_counted(row.complexity),
        "latency": asdict(row.latency),
    }


def _counted(complexity: Complexity | None) -> dict[str, int | None]:
    return {each.name: getattr(complexity, each.name, None) for each in fields(Complexity)}
