"""An architecture, trained from scratch and measured: (latency, AP) and all that is worth keeping."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.data import free_memory
from smnas_optuna.engine.checkpoint import remove_checkpoint, remove_weights, resume, save_checkpoint, save_weights
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory, library_versions
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.graphs import WARM_UP_CALLS as RECORDED_AFTER
from smnas_optuna.engine.latency import LatencyStats, round_to_noise
from smnas_optuna.engine.memory import estimate_training, fitting_micro_batch
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.models import Detector
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.crew import Crew
from smnas_optuna.search.gate import prune_dominated, prune_over_budget
from smnas_optuna.search.interrupt import Interrupted, StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.rungs import prune_behind
from smnas_optuna.search.slow import prune_slow
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.study.settled import trained_share

RUNS = "runs"
"""Folder of the study folder that has one for each architecture."""
LOG_FILE = "train.log"
CHECKPOINT_FILE = "checkpoint.safetensors"
REFERENCE_MS = "reference_ms"
"""Study attribute: the unit of all latencies, see :func:`agree_on_reference_ms`."""
_PATIENCE = 50


class Objective:
    """Trains, evaluates and times the detector of a trial.

    Args:
        bench: Data, device and settings.
        crew: The workers of the study.
        listener: Told about every step.
        stop: Asked at every step.
        limits: Those in force.
        spared: Trained to the end whatever partial-order pruning and rungs say, to be compared with.
        elsewhere: Gives trials of the folder's other studies, which partial-order pruning looks at, too.
        forced: In what the numbers depend on something else than the study's; kept with each trial.
    """

    def __init__(
        self,
        bench: Bench,
        crew: Crew,
        listener: Listener,
        stop: StopRequest,
        *,
        limits: Limits,
        spared: Container[DetectorSpec] = (),
        elsewhere: Callable[[], list[TrialRecord]] = list,
        forced: Sequence[str] = (),
    ) -> None:
        self.bench = bench
        self.crew = crew
        self.listener = listener
        self.stop = stop
        self.limits = limits
        self.spared = spared
        self.elsewhere = elsewhere
        self.forced = list(forced)

    def __call__(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        """Return what was found out about ``spec``; its weights and log are in the study's ``runs`` folder.

        Raises:
            DivergenceError: If training diverged.
            OutOfMemoryError: If the detector does not fit into memory.
            TrialPruned: If it exceeds a limit, as far as can be told before or at the beginning of its training, is
                sure not to come onto the front, or lags far behind at a rung.
            DeviceFault: If the GPU failed, and this process can use it no more.
            Interrupted: If asked to stop; what was trained is kept, and gone on with.
        """
        bench = self.bench
        run = _Run(bench, spec, trial, self.listener.note)
        if self.forced:
            store_attrs(trial, {"forced": self.forced})
        with (
            run.recorded(),
            bench.quiet.working(self.stop.check),
            explained_device_faults(bench.device),
            explained_out_of_memory(),
        ):
            detector = bench.build(spec, run.seed)
            complexity = count_complexity(detector, long=spec.input_size.long, short=spec.input_size.short)
            store_attrs(trial, {**dataclasses.asdict(complexity), "flops": 2 * complexity.multiply_adds})
            prune_over_budget(trial, self.limits, num_params=complexity.num_params)
            with run.phase("gate"):
                reference_ms = self._pass_gate(trial, spec)
            with run.phase("load"):
                train_batches = bench.train_batches(spec.input_size, run.seed)
                val_batches = bench.val_batches(spec.input_size)
            training = Training(
                detector,
                train_batches,
                bench.settings.train,
                seed=run.seed,
                micro_batch=fitting_images(bench, detector, spec),
                note=run.note,
            )

            def evaluate() -> CocoMetrics:
                on_step = step_of("evaluate", self.listener, self.stop, bench.quiet)
                return bench.evaluate(detector, bench.splits.val, val_batches, on_step, run.note)

            with run.phase("train"):
                skipped = self._train(run, training, lambda: self._pass_rung(run, training, evaluate))
            with run.phase("evaluate"):
                metrics = evaluate()
            with run.phase("latency"):
                latency = bench.measure_latency(detector, spec.input_size, self.stop.check)
            latency_ms = round_to_noise(latency.ratio, bench.settings.latency.noise) * reference_ms
            run.write(f"AP {metrics.ap:.4f}, {latency_ms:.3f} ms")
            self._set_constraints(trial, latency_ms, complexity.num_params)
            results = {
                "metrics": without_nan(metrics),
                "latency": {**without_nan(latency), "reference": bench.settings.reference, "runtime": bench.runtime},
                "skipped_steps": skipped,
            }
            save_weights(run.folder, detector, self._description(run.arch, latency_ms, results))
        weights = str(run.folder.relative_to(bench.study_dir))
        return Evaluation(latency_ms=latency_ms, ap=metrics.ap, attrs={**results, "weights": weights})

    def _set_constraints(self, trial: optuna.Trial, latency_ms: float, num_params: int) -> None:
        """Tell Optuna by how much the finished detector exceeds each limit, a part of the limit; below 0 it does not.

        Only now: Optuna keeps the first value for good, and looks at those of finished trials alone.
        """
        for name, excess in self.limits.excesses(latency_ms=latency_ms, num_params=num_params).items():
            trial.set_constraint(name, excess)
            store_attrs(trial, {f"violation_{name}": excess})

    def tidy(self, records: list[TrialRecord]) -> None:
        """Remove what ended trials need no more: checkpoints, and weights unless they are on the front.

        Once dominated, a trial stays so. ``[search] keep_weights = "all"`` keeps the weights of all.
        """
        front = {record.arch for record in pareto_front(records)}
        for record in records:
            if not record.settles:
                continue
            folder = run_folder(self.bench.study_dir, str(record.arch))
            remove_checkpoint(folder / CHECKPOINT_FILE)
            if record.trained and record.arch not in front and self.bench.settings.search.keep_weights == "front":
                remove_weights(folder)

    def _pass_gate(self, trial: optuna.Trial, spec: DetectorSpec) -> float:
        """Prune ``spec`` if what its gate latency tells is enough; return the reference detector's latency, ms."""
        gate = self.bench.measure_gate(spec, self.stop.check)
        reference_ms = agree_on_reference_ms(trial.study, self.crew, gate.reference_p10_ms)
        known = [*read_records(trial.study), *self.elsewhere()]
        gate_ms = gate.ratio * reference_ms
        expected_ms = gate_ms * trained_share(known)
        store_attrs(trial, {"gate": without_nan(gate), "gate_ms": gate_ms, "expected_latency_ms": expected_ms})
        prune_over_budget(trial, self.limits, latency_ms=expected_ms)
        if self.limits.pruning and spec not in self.spared:
            prune_dominated(trial, spec, gate.ratio, known, self.bench.settings.search.ap_spread)
        return reference_ms

    def _train(self, run: _Run, training: Training, pass_rung: Callable[[], None]) -> int:
        """Go on with what an earlier attempt has stored, or begin; return the number of steps that were skipped.

        ``pass_rung`` is called between epochs, and as it begins: an attempt may have ended before it was judged.
        """
        path = run.folder / CHECKPOINT_FILE
        if resume(path, training, run.key, run.note):
            run.note(f"{run.arch}: goes on after epoch {training.epochs_done}, step {training.step} of the next")
        store_attrs(run.trial, {"epochs_before": training.epochs_done, "epochs_done": training.epochs_done})

        def on_epoch(report: EpochReport) -> None:
            # First of all: an epoch that is told has been kept, and will not be told again.
            save_checkpoint(path, training.state(), run.key)
            self._end_epoch(run, report)
            pass_rung()

        try:
            pass_rung()
            return training.run(on_step=self._on_training_step(run.trial), on_epoch=on_epoch)
        except Interrupted:
            save_checkpoint(path, training.state(), run.key)
            raise

    def _pass_rung(self, run: _Run, training: Training, evaluate: Callable[[], CocoMetrics]) -> None:
        """Keep the AP of a training that stands at a rung, and prune it if it lags far behind.

        What earlier attempts measured is in the training's state, of which the next checkpoint keeps the rest: one that
        dies before is measured again, to the same AP.
        """
        epoch, settings = training.epochs_done, self.bench.settings
        if not self.limits.pruning:
            return
        at_rung = epoch in settings.rungs and not training.step
        if at_rung and epoch not in training.ap_by_epoch:
            with run.phase("rungs"):
                training.ap_by_epoch[epoch] = evaluate().ap
            run.write(f"epoch {epoch}: AP {training.ap_by_epoch[epoch]:.4f}")
        if training.ap_by_epoch:
            store_attrs(run.trial, {"ap_by_epoch": {str(rung): ap for rung, ap in training.ap_by_epoch.items()}})
        if at_rung and run.spec not in self.spared:
            known = [*read_records(run.trial.study), *self.elsewhere()]
            gate_ratio = run.trial.user_attrs["gate"]["ratio"]
            ap, search = training.ap_by_epoch[epoch], settings.search
            prune_behind(run.trial, epoch, ap, gate_ratio, known, margin=search.rung_margin, ap_spread=search.ap_spread)

    def _on_training_step(self, trial: optuna.Trial) -> Callable[[int, int], None]:
        """What training calls after each step; begins to measure time as it is made."""
        step = step_of("train", self.listener, self.stop, self.bench.quiet)
        limit = self.limits.max_seconds
        if limit is None:
            return step
        warm_up = 1 + RECORDED_AFTER if self.bench.device.type == "cuda" else 1
        prune = prune_slow(trial, limit, self.bench.device, warm_up=warm_up)

        def on_step(done: int, total: int) -> None:
            step(done, total)
            prune(done, total)

        return on_step

    def _end_epoch(self, run: _Run, report: EpochReport) -> None:
        store_attrs(run.trial, {"epochs_done": report.epoch})
        run.write(
            f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.4f}, "
            f"{report.skipped_steps} steps skipped, {report.seconds:.1f} s"
        )
        self.listener.epoch(report)

    def _description(self, arch: str, latency_ms: float, results: Mapping[str, Any]) -> dict[str, Any]:
        """What stands beside the weights, so that they can be used without the study."""
        val, constants = self.bench.splits.val, self.bench.settings.detector.constants()
        return {
            "arch": arch,
            "classes": list(val.category_names),  # label 1 is the first
            "category_ids": list(val.category_ids),
            "constants": dataclasses.asdict(constants),
            "latency_ms": latency_ms,
            "device": self.bench.device_description,
            "versions": library_versions(),
            **results,
        }


def fitting_images(bench: Bench, detector: Detector, spec: DetectorSpec) -> int | None:
    """Images that are trained on at a time so that main memory lasts; None on a GPU, where a failure tells.

    Raises:
        OutOfMemoryError: If there is no room for a single one.
    """
    if bench.device.type != "cpu":
        return None
    size, max_boxes = spec.input_size, bench.splits.train.max_boxes
    memory, free = estimate_training(detector, size.long, size.short, max_boxes=max_boxes), free_memory()
    fitting = fitting_micro_batch(memory, bench.settings.train.batch_size, free)
    if fitting == 0:
        needed = memory.fixed_bytes + memory.bytes_per_image
        raise OutOfMemoryError(
            f"training with one image a step takes about {needed / 2**20:,.0f} MiB of main memory, "
            f"and {free / 2**20:,.0f} MiB are free",
            fix="end what else uses memory, or take smaller choices",
        )
    return fitting


def run_folder(study_dir: Path, arch: str) -> Path:
    """Where the log, the checkpoint and the weights of an architecture lie.

    Raises:
        ArchError: If ``arch`` names no architecture.
    """
    return study_dir / RUNS / encode(decode(arch))  # a name from a database must not lead out of the folder


class _Run:
    """One attempt at an architecture: its seed, its folder, its log, and the seconds that each phase took.

    Attributes:
        spec: The architecture.
        key: What a checkpoint must have been made with to be gone on with.
    """

    def __init__(self, bench: Bench, spec: DetectorSpec, trial: optuna.Trial, note: Callable[[str], None]) -> None:
        self._start = time.perf_counter()
        self.spec, self.arch = spec, encode(spec)
        self.seed = derive_seed(bench.settings.search.seed, self.arch)
        self.folder = run_folder(bench.study_dir, self.arch)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trial = trial
        self._seconds: dict[str, float] = {}
        self._tell = note
        device = bench.device_description
        self.key = {
            "arch": self.arch,
            "seed": self.seed,
            "data": bench.splits.content_hash,
            "train": bench.settings.train.model_dump(mode="json"),
            "detector": bench.settings.detector.model_dump(mode="json"),
            "device": {name: device[name] for name in ("kind", "threads") if name in device},
        }
        store_attrs(trial, {"seed": self.seed, "device": device, "versions": library_versions()})
        self.write(f"trial {trial.number}: {self.arch}, seed {self.seed}, {device}")

    def write(self, line: str) -> None:
        """Add a line with the time to the log, which is kept when the architecture is tried again."""
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n")

    def note(self, line: str) -> None:
        """Say something to the log and to the person who looks on."""
        self.write(line)
        self._tell(line)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the body as those of a phase, without those of phases inside it."""
        start, counted = time.perf_counter(), sum(self._seconds.values())
        try:
            yield
        finally:
            inside = sum(self._seconds.values()) - counted
            seconds = self._seconds.get(name, 0.0) + time.perf_counter() - start - inside
            self._seconds[name] = round(seconds, 3)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Store the seconds of the phases and of all between them, and note the exception that leaves the body."""
        try:
            yield
        except BaseException as error:
            self.write(f"ended by {type(error).__name__}: {error}")
            raise
        finally:
            between = time.perf_counter() - self._start - sum(self._seconds.values())
            store_attrs(self.trial, {"seconds": {**self._seconds, "bookkeeping": round(max(0.0, between), 3)}})


def agree_on_reference_ms(study: optuna.Study, crew: Crew, measured_ms: float) -> float:
    """The reference detector's time in the study's first measurement, ms; ``measured_ms`` if this is the first.

    It turns ratios into ms for the whole study. Other work on the machine only ever makes a run longer, and the first
    measurement is short: on two CPU cores that were full its median was ten times what it is on free ones, its 10th
    percentile the same. So ``measured_ms`` should be that percentile.

    Of several workers whose first measurements end together, a claim lets one say it.
    """
    for _ in range(_PATIENCE):
        if REFERENCE_MS in study.user_attrs:
            break
        if crew.claim(REFERENCE_MS):
            if REFERENCE_MS not in study.user_attrs:
                study.set_user_attr(REFERENCE_MS, measured_ms)
            crew.give_back(REFERENCE_MS)
        else:
            time.sleep(0.1)
    else:  # whoever had the claim died with it, and is not recovered yet
        study.set_user_attr(REFERENCE_MS, measured_ms)
    return float(study.user_attrs[REFERENCE_MS])


def without_nan(stats: CocoMetrics | LatencyStats) -> dict[str, Any]:
    """The values by name; JSON has no NaN, so that a number that could not be measured is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in dataclasses.asdict(stats).items()
    }
