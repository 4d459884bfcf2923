"""An architecture, trained from scratch and measured: (latency, AP) and all that is worth keeping."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import optuna

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.engine.checkpoint import remove_weights, save_weights
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.evaluate import CocoMetrics, coco_metrics, detect
from smnas_optuna.engine.latency import LatencyStats, measure_latency
from smnas_optuna.engine.train import EpochReport, train
from smnas_optuna.models import Detector, fold_weight_standardization
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.pareto import pareto_front
from smnas_optuna.search.record import TrialRecord
from smnas_optuna.search.seeds import derive_seed

LOG_FILE = "train.log"
REFERENCE_MS = "reference_ms"
"""Study attribute: the reference detector's median in the study's first measurement, the unit of all latencies."""


class Objective:
    """Trains, evaluates and times the detector of a trial.

    Args:
        bench: Data, device and settings.
        listener: Told about every step.
        stop: Asked at every step.
    """

    def __init__(self, bench: Bench, listener: Listener, stop: StopRequest) -> None:
        self.bench = bench
        self.listener = listener
        self.stop = stop

    def __call__(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        """Return what was found out about ``spec``; its weights and log are in the study's ``runs`` folder.

        Raises:
            DivergenceError: If training diverged.
            RuntimeError: If the device ran out of memory, or the AP is not a number.
            Interrupted: If asked to stop.
        """
        arch, bench = encode(spec), self.bench
        seed = derive_seed(bench.settings.search.seed, arch)
        seconds: dict[str, float] = {}
        log = _Log(run_folder(bench.study_dir, arch) / LOG_FILE)
        log.write(f"trial {trial.number}: {arch}, seed {seed}, {describe_device(bench.device)}")
        with log.failures():
            with _timed("load", seconds):
                train_batches, val_batches = (
                    bench.train_batches(spec.input_size, seed),
                    bench.val_batches(spec.input_size),
                )
            detector = bench.build(spec, seed)
            complexity = count_complexity(detector, long=spec.input_size.long, short=spec.input_size.short)

            def end_of_epoch(report: EpochReport) -> None:
                trial.set_user_attr("epochs_done", report.epoch)
                log.write(
                    f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.4f}, "
                    f"{report.skipped_steps} steps skipped, {report.seconds:.1f} s"
                )
                self.listener.epoch(report)

            with _timed("train", seconds):
                settings = bench.settings.train
                skipped = train(detector, train_batches, settings, on_step=self._steps("train"), on_epoch=end_of_epoch)
            with _timed("evaluate", seconds):
                detections = detect(
                    detector, val_batches, bench.splits.val.category_ids, on_step=self._steps("evaluate")
                )
                metrics = coco_metrics(bench.splits.val.ground_truth(), detections)
            if math.isnan(metrics.ap):
                raise RuntimeError("the AP is not a number")
            with _timed("latency", seconds):
                latency = self._latency(detector, spec)
            latency_ms = latency.ratio * self._reference_ms(trial.study, latency)
            log.write(f"AP {metrics.ap:.4f}, {latency_ms:.3f} ms")
        attrs = {
            "num_params": complexity.num_params,
            "multiply_adds": complexity.multiply_adds,
            "flops": 2 * complexity.multiply_adds,
            "metrics": _json(metrics),
            "latency": {**_json(latency), "reference": bench.settings.reference},
            "device": describe_device(bench.device),
            "versions": library_versions(),
            "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
            "skipped_steps": skipped,
            "num_detections": len(detections),
            "seed": seed,
        }
        folder = run_folder(bench.study_dir, arch)
        description = {
            "arch": arch,
            "classes": dict(zip(bench.splits.val.category_ids, bench.splits.val.category_names, strict=True)),
            "constants": dataclasses.asdict(bench.settings.detector.constants()),
            "latency_ms": latency_ms,
            "ap": metrics.ap,
            **attrs,
        }
        save_weights(folder, detector, description)
        weights = {"weights": str(folder.relative_to(bench.study_dir))}
        return Evaluation(latency_ms=latency_ms, ap=metrics.ap, attrs={**attrs, **weights})

    def keep_front_weights(self, records: list[TrialRecord]) -> None:
        """Remove the weights of trials that are not on the front; once dominated, a trial stays so."""
        front = {record.arch for record in pareto_front(records)}
        for record in records:
            if record.trained and record.arch not in front:
                remove_weights(run_folder(self.bench.study_dir, str(record.arch)))

    def _latency(self, detector: Detector, spec: DetectorSpec) -> LatencyStats:
        reference, reference_images = self.bench.reference
        images = self.bench.timed_images(spec.input_size)
        shipped = fold_weight_standardization(detector)
        settings = self.bench.settings.latency
        return measure_latency(shipped, images, reference, reference_images, settings, on_step=self.stop.check)

    def _reference_ms(self, study: optuna.Study, latency: LatencyStats) -> float:
        if REFERENCE_MS not in study.user_attrs:
            study.set_user_attr(REFERENCE_MS, latency.reference_median_ms)
        return float(study.user_attrs[REFERENCE_MS])

    def _steps(self, phase: str) -> Callable[[int, int], None]:
        def step(done: int, total: int) -> None:
            self.stop.check()
            self.listener.step(phase, done, total)

        return step


def run_folder(study_dir: Path, arch: str) -> Path:
    """Where the log and the weights of an architecture lie."""
    return study_dir / "runs" / arch


class _Log:
    """A trial's log file: a line a fact, with the time; kept when the trial is tried again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n")

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Note the exception that leaves the body."""
        try:
            yield
        except BaseException as error:
            self.write(f"ended by {type(error).__name__}: {error}")
            raise


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - start


def _json(stats: CocoMetrics | LatencyStats) -> dict[str, float | None]:
    """The numbers by name; JSON has no NaN, so that what could not be measured is null."""
    return {name: None if math.isnan(value) else value for name, value in dataclasses.asdict(stats).items()}
