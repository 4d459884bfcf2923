"""Detectors timed side by side in one run: ours, and torchvision's beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from smnas_optuna.arch import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.complexity import Complexity, count_complexity
from smnas_optuna.engine.device import (
    choose_device,
    describe_device,
    explained_device_faults,
    explained_out_of_memory,
    library_versions,
)
from smnas_optuna.engine.gpu_watch import GpuWatch, watch_gpu
from smnas_optuna.engine.graphs import Runtime, choose_runtime
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.models import Detector
from smnas_optuna.search.bench import as_shipped, measure_alone
from smnas_optuna.search.benchmark_ground import RUNTIMES, BenchmarkGround, BenchmarkRequest, check_request, prepared
from smnas_optuna.search.contestants import (
    TORCHVISION_SIZE,
    Contestant,
    by_graphs,
    parse_sizes,
    torchvision_contestants,
)
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener
from smnas_optuna.search.quiet import Quiet


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow:
    """A detector and what was measured of it."""

    contestant: Contestant
    complexity: Complexity
    latency: LatencyStats


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """What came out of one run.

    Attributes:
        rows: In the order in which they were asked for. All ratios are to the first one. Its own ratio is that of the
            detector to itself, and says how far the machine can be trusted.
        source: The images, in words.
        num_classes: Foreground classes of all detectors.
        settings: Of the measurement.
        device: As :func:`smnas_optuna.engine.device.describe_device` says.
        versions: Of the libraries.
    """

    rows: Sequence[BenchmarkRow]
    source: str
    num_classes: int
    settings: LatencySettings
    device: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def reference(self) -> str:
        """Name of the row that all ratios are to."""
        return self.rows[0].contestant.name

    @property
    def weights(self) -> set[str]:
        """The kinds of weights that there are among the rows."""
        return {row.contestant.weights for row in self.rows}

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, but for floats that are no numbers."""
        return {
            "reference": self.reference,
            "rows": [_entry(row) for row in self.rows],
            "protocol": {
                "batch_size": 1,
                "precision": "float32",
                "images": self.source,
                "num_classes": self.num_classes,
                "latency": self.settings.model_dump(mode="json", exclude={"reference", "noise", "runtime"}),
            },
            "device": dict(self.device),
            "versions": dict(self.versions),
        }


def run_benchmark(request: BenchmarkRequest, *, listener: Listener, stop: StopRequest) -> Benchmark:
    """Time every detector that ``request`` asks for, one after the other, in alternation with the first.

    Args:
        request: What is asked for.
        listener: Told of each detector when it is measured, so that what stops a later one loses none of the earlier.
        stop: Asked after each run of a detector.

    Raises:
        SmnasError: If something in ``request`` is not there, cannot be used, or does not fit into memory.
        Interrupted: If asked to stop.
    """
    check_request(request)
    device = choose_device(request.device)
    runtimes: Sequence[Runtime] = [choose_runtime(choice, device) for choice in RUNTIMES[request.runtime]]
    with prepared(request, device, listener, stop) as ground, explained_device_faults(device):
        contestants = [
            by_graphs(ground.contestant(name), renamed=len(runtimes) > 1)
            if runtime == "graph"
            else ground.contestant(name)
            for name in dict.fromkeys(request.archs)
            for runtime in runtimes
        ]
        if request.baselines:
            sizes = _baseline_sizes(request, [each.input_size for each in contestants])
            contestants += torchvision_contestants(sizes, ground.images.num_classes, device)
        return Benchmark(
            rows=_measure_all(contestants, ground, listener, stop),
            source=ground.images.source,
            num_classes=ground.images.num_classes,
            settings=ground.settings,
            device=describe_device(device),
            versions=library_versions(),
        )


def _measure_all(
    contestants: Sequence[Contestant], ground: BenchmarkGround, listener: Listener, stop: StopRequest
) -> list[BenchmarkRow]:
    reference = contestants[0]
    with _explained(reference):
        its = (_shipped(reference, reference.build()), ground.images.at(reference.input_size))
    quiet, rows = Quiet(), []
    watch = watch_gpu(its[1][0].images.device, takes_part=quiet.takes_part, note=listener.note)
    for number, contestant in enumerate(contestants):
        listener.step("latency", number, len(contestants))
        with _explained(contestant):
            row = _measure(contestant, its, ground, quiet, watch, stop.check)
        listener.note(f"{contestant.name}: {row.latency.median_ms:.2f} ms, ratio {row.latency.ratio:.4f}")
        rows.append(row)
    return rows


def _measure(
    contestant: Contestant,
    reference: tuple[nn.Module, list[Batch]],
    ground: BenchmarkGround,
    quiet: Quiet,
    watch: GpuWatch,
    on_step: Callable[[], None],
) -> BenchmarkRow:
    size, detector = contestant.input_size, contestant.build()
    complexity = count_complexity(detector, long=size.long, short=size.short)
    shipped, images = _shipped(contestant, detector), ground.images.at(size)
    latency = measure_alone(quiet, watch, shipped, images, reference, ground.settings, on_step=on_step)
    return BenchmarkRow(contestant=contestant, complexity=complexity, latency=latency)


def _shipped(contestant: Contestant, detector: nn.Module) -> nn.Module:
    """As it would ship: ours folded, by graphs if asked for; torchvision's as they come."""
    return as_shipped(detector, contestant.runtime) if isinstance(detector, Detector) else detector


@contextmanager
def _explained(contestant: Contestant) -> Iterator[None]:
    """Say whose memory it was that did not suffice."""
    try:
        with explained_out_of_memory():
            yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{contestant.name}: {error.message}", fix="leave it out, or take a smaller size"
        ) from None


def _baseline_sizes(request: BenchmarkRequest, ours: Sequence[InputSize]) -> list[InputSize]:
    if request.sizes is not None:
        return parse_sizes(request.sizes)
    return list(dict.fromkeys(ours)) or [TORCHVISION_SIZE]


def _entry(row: BenchmarkRow) -> dict[str, Any]:
    contestant = row.contestant
    return {
        "name": contestant.name,
        "arch": contestant.arch,
        "input_size": str(contestant.input_size),
        "weights": contestant.weights,
        "score_threshold": contestant.score_threshold,
        "runtime": contestant.runtime,
        **asdict(row.complexity),
        "latency": asdict(row.latency),
    }
