"""What is kept of a final training: its curve, its best weights and its last, and what is measured at its end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.data.json_file import read_json
from smnas_optuna.duration import format_seconds
from smnas_optuna.engine.checkpoint import DETECTOR_FILE, keep_weights, load_weights
from smnas_optuna.engine.device import library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.latency import LatencyStats, round_to_noise
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.final_training.known import Known
from smnas_optuna.final_training.place import place_of
from smnas_optuna.final_training.record import CURVE_FILE, LAST, MeasuredLatency, Metrics, Outcome, Plan
from smnas_optuna.session.description import describe_detector
from smnas_optuna.session.executor import Trained, Watch
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import REFERENCE_MS, json_values
from smnas_optuna.study.folder import CHECKPOINT_FILE
from smnas_optuna.study.record import folder_scale
from smnas_optuna.study.stored import study_attrs


class Keeper(Watch):
    """Keeps the curve of a training, its best weights and its last.

    Weights are taken from the checkpoint, which has those of the last epoch wherever it was trained. Each checkpoint
    has the APs that were measured before it. If a process dies in between, the evaluation is made again and gives the
    same weights and APs.

    Args:
        session: Data, device and settings.
        plan: What the training does.
        place: Folder of its weights and its checkpoint.
        on_step: Called after each step of training with (steps done, all steps).
        on_epoch: Called with the seconds of all epochs, and those of the last evaluation on the validation images, when
            an epoch and the evaluation after it have ended.
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        place: Path,
        on_step: Callable[[int, int], None],
        on_epoch: Callable[[Sequence[float], float | None], None],
    ) -> None:
        self._session, self._plan, self._place = session, plan, place
        self._on_step, self._on_epoch = on_step, on_epoch
        self._history: list[EpochReport] = []
        self._ap_by_epoch: dict[int, float] = {}
        self._metrics: Metrics | None = None  # measured at this rung
        self._evaluation_s: float | None = None
        self._is_open = False  # an epoch has ended, and not yet the evaluation after it

    def note(self, line: str) -> None:
        """Report the line."""
        self._session.listener.note(line)

    def begun(self, history: Sequence[EpochReport], device: Mapping[str, str | int]) -> None:
        """Say where it trains, and how long it takes from here."""
        self._history = list(history)
        if "host" in device:
            self.note(f"trains on node {device['host']}")
        if not history:
            self._write_curve()  # one that begins anew has had others
        else:
            left_s = (self._plan.epochs - len(history)) * fmean(each.seconds for each in history)
            self.note(f"time: about {format_seconds(left_s)} of training are left, evaluations apart")

    def step(self, phase: str, done: int, total: int) -> None:
        """Report the step."""
        step = self._on_step if phase == "train" else self._session.step(phase)
        step(done, total)

    def epoch(self, report: EpochReport) -> None:
        """Report and keep the epoch."""
        self._history.append(report)
        self._session.listener.epoch(report)
        self._is_open = True
        if report.epoch not in self._plan.rungs:
            self._end_epoch()

    def measured(self, epoch: int, metrics: CocoMetrics) -> None:  # noqa: ARG002
        """Keep the metrics until the training waits."""
        self._metrics = json_values(metrics)

    def standing(self, ap_by_epoch: Mapping[int, float], rung: int | None) -> None:
        """Keep the weights at a rung if they are the best so far, or the last."""
        if rung is not None and self._metrics is not None:
            self._keep(rung, self._metrics, max((ap for at, ap in ap_by_epoch.items() if at != rung), default=-1.0))
        self._metrics, self._ap_by_epoch = None, dict(ap_by_epoch)
        if rung is not None and self._is_open:
            self._end_epoch()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Take the time of an evaluation."""
        begin = time.perf_counter()
        yield
        self.spent(name, time.perf_counter() - begin)

    def spent(self, phase: str, seconds: float) -> None:
        """Keep the time of an evaluation."""
        if phase == "rungs":
            self._evaluation_s = seconds

    def finish(self, trained: Trained, known: Known, *, comparable: bool) -> Outcome:
        """Measure the weights that are kept, store their description, and return what came out.

        Args:
            trained: The training, which has ended.
            known: What the study knows of the architecture.
            comparable: True if latencies of this device compare with those of the study.
        """
        plan, aps, testbed = self._plan, self._ap_by_epoch, self._session.testbed
        self._write_curve()  # a process may have died before it could
        epoch, metrics, last_metrics = plan.epochs, None, None
        if plan.with_val:
            self._save(self._place, epoch=epoch, metrics=None)
        else:
            epoch = min(aps, key=lambda each: (-aps[each], each))
            metrics = _stored_metrics(self._place)
            last_metrics = _stored_metrics(self._place / LAST)
        load_weights(self._place, trained.detector)
        test_metrics = None if testbed.splits.test is None else self._test_metrics(trained)
        stats = testbed.measure_latency(trained.detector, decode(plan.arch), self._session.stop.check)
        values = testbed.latency_values(stats)
        latency = self._on_scale(stats, values, comparable=comparable)
        known_ms = latency.ms or (None if known.record is None else known.record.latency_ms)
        place = None
        if metrics is not None and known_ms is not None:
            place = place_of(plan.arch, known_ms, metrics["ap"] or 0.0, known.front)
        results = {"metrics": metrics, "test_metrics": test_metrics, "latency": values, "latency_ms": latency.ms}
        write_json(self._place / DETECTOR_FILE, self._description(epoch=epoch, **results))
        return Outcome(
            epoch=epoch,
            metrics=metrics,
            last_metrics=last_metrics,
            test_metrics=test_metrics,
            ap_spread=known.evidence.spread,
            latency=latency,
            place=place,
            skipped_steps=trained.skipped_steps,
            seconds=sum(each.seconds for each in self._history),
            device=testbed.device_description,
            versions=library_versions(),
        )

    def _keep(self, epoch: int, metrics: Metrics, best: float) -> None:
        """Report an evaluation, and keep the weights if they beat an AP of ``best``, or are the last."""
        ap = metrics["ap"] or 0.0
        if ap > best:
            self._save(self._place, epoch=epoch, metrics=metrics)
        if epoch == self._plan.epochs:
            self._save(self._place / LAST, epoch=epoch, metrics=metrics)
        self.note(f"epoch {epoch}: AP (x100) {100 * ap:.1f}" + (", the best so far" if ap > best else ""))
        self._session.listener.evaluated(epoch, ap)

    def _end_epoch(self) -> None:
        self._is_open = False
        self._write_curve()
        self._on_epoch([each.seconds for each in self._history], self._evaluation_s)

    def _test_metrics(self, trained: Trained) -> Metrics:
        """Return COCO's metrics of the detector on the test images, as JSON values."""
        testbed, size = self._session.testbed, decode(self._plan.arch).input_size
        assert testbed.splits.test is not None
        step, batches = self._session.step("evaluate"), testbed.test_batches(size)
        return json_values(testbed.evaluate(trained.detector, testbed.splits.test, batches, step, self.note))

    def _save(self, folder: Path, *, epoch: int, metrics: Metrics | None) -> None:
        self._session.folder.make(folder)
        keep_weights(self._place / CHECKPOINT_FILE, folder, self._description(epoch=epoch, metrics=metrics))

    def _description(self, **results: Any) -> dict[str, Any]:
        plan = {name: value for name, value in dataclasses.asdict(self._plan).items() if name != "arch"}
        return describe_detector(self._session.testbed, self._plan.arch, {**plan, **results})

    def _write_curve(self) -> None:
        epochs = [
            {
                "epoch": each.epoch,
                "loss": None if math.isnan(each.loss) else each.loss,
                "ap": self._ap_by_epoch.get(each.epoch),
                "skipped_steps": each.skipped_steps,
                "seconds": each.seconds,
            }
            for each in self._history
        ]
        write_json(self._place / CURVE_FILE, {"arch": self._plan.arch, "of": self._plan.epochs, "epochs": epochs})

    def _on_scale(self, stats: LatencyStats, values: dict[str, Any], *, comparable: bool) -> MeasuredLatency:
        """Return a latency on the scale of the study, as the search puts it there."""
        structural, on_scale = self._session.folder.structural, None
        if structural is not None and comparable:
            attrs = study_attrs(structural)
            constant_ms = attrs.get(REFERENCE_MS) or stats.reference_p10_ms
            stored_ms = round_to_noise(stats.ratio, self._session.settings.latency.noise) * constant_ms
            # without an architecture, for which the scale would have what smnas retime has measured
            on_scale = folder_scale(structural).of_study(attrs).latency(stored_ms, {"latency": values})
        return MeasuredLatency(
            ratio=stats.ratio,
            ms=None if on_scale is None else on_scale.safe_ms,
            low_ms=None if on_scale is None else on_scale.low_ms,
            high_ms=None if on_scale is None else on_scale.high_ms,
            here_ms=stats.p10_ms,
            reference_here_ms=stats.reference_p10_ms,
            runtime=values["runtime"],
        )


def _stored_metrics(folder: Path) -> Metrics:
    """Return the metrics that are stored beside weights."""
    description = read_json(folder / DETECTOR_FILE)
    assert isinstance(description, dict)
    metrics: Metrics = description["metrics"]
    return metrics
