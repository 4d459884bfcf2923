"""Evaluations of a final training on the way, the weights that are kept of it, and what is measured at its end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.data.json_file import read_json
from smnas_optuna.engine.checkpoint import DETECTOR_FILE, load_weights, save_weights
from smnas_optuna.engine.device import library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.latency import LatencyStats, round_to_noise
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.final_training.place import place_of
from smnas_optuna.final_training.record import CURVE_FILE, LAST, MeasuredLatency, Metrics, Outcome, Plan
from smnas_optuna.final_training.schedule import evaluation_epochs
from smnas_optuna.models import Detector
from smnas_optuna.session.description import describe_detector
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import REFERENCE_MS, json_values
from smnas_optuna.study.record import TrialRecord, folder_scale
from smnas_optuna.study.stored import study_attrs


class Keeper:
    """Evaluates a training, and keeps its best and its last weights.

    The training's state has the APs that are measured, and each checkpoint stores those before it. If the process dies
    in between, the evaluation is made again and gives the same weights and APs.

    Args:
        session: Data, device and settings.
        plan: What the training does.
        place: Folder of its weights.
        detector: The detector in training.
        training: The training.

    Attributes:
        evaluation_s: Seconds of the last evaluation on the validation images; None before the first one.
    """

    def __init__(self, session: Session, plan: Plan, place: Path, detector: Detector, training: Training) -> None:
        self._session, self._plan, self._place = session, plan, place
        self._detector, self._training = detector, training
        self._spec = decode(plan.arch)
        self.evaluation_s: float | None = None
        self._due = frozenset[int]() if plan.with_val else evaluation_epochs(plan.epochs)

    def end_epoch(self, report: EpochReport) -> None:
        """Report a finished epoch, and evaluate the detector if that is due."""
        self._session.listener.epoch(report)
        self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the detector if that is due, and keep its weights if they are the best so far, or the last."""
        training, epoch = self._training, self._training.epochs_done
        if not training.step and epoch in self._due and epoch not in training.ap_by_epoch:
            begin = time.perf_counter()
            metrics = self._metrics("val")
            self.evaluation_s = time.perf_counter() - begin
            ap, best = metrics["ap"] or 0.0, max(training.ap_by_epoch.values(), default=-1.0)
            self._session.listener.note(
                f"epoch {epoch}: AP (x100) {100 * ap:.1f}" + (", the best so far" if ap > best else "")
            )
            if ap > best:
                self._save(self._place, epoch=epoch, metrics=metrics)
            if epoch == self._plan.epochs:
                self._save(self._place / LAST, epoch=epoch, metrics=metrics)
            training.ap_by_epoch[epoch] = ap
            self._session.listener.evaluated(epoch, ap)
        self._write_curve()

    def finish(
        self,
        skipped_steps: int,
        record: TrialRecord | None,
        front: Sequence[TrialRecord],
        ap_spread: float,
        *,
        comparable: bool,
    ) -> Outcome:
        """Measure the weights that are kept, store their description, and return what came out.

        Args:
            skipped_steps: Steps that were skipped.
            record: Trial of the architecture in the search; None if the search has not trained it.
            front: Front of the study, fastest first.
            ap_spread: Standard deviation of AP over seeds.
            comparable: True if latencies of this device compare with those of the study.
        """
        plan, aps, testbed = self._plan, self._training.ap_by_epoch, self._session.testbed
        epoch, metrics, last_metrics = plan.epochs, None, None
        if plan.with_val:
            self._save(self._place, epoch=epoch, metrics=None)
        else:
            epoch = min(aps, key=lambda each: (-aps[each], each))
            metrics = _stored_metrics(self._place)
            last_metrics = _stored_metrics(self._place / LAST)
            load_weights(self._place, self._detector)
        test_metrics = None if testbed.splits.test is None else self._metrics("test")
        stats = testbed.measure_latency(self._detector, self._spec, self._session.stop.check)
        values = testbed.latency_values(stats)
        latency = self._on_scale(stats, values, comparable=comparable)
        known_ms = latency.ms or (None if record is None else record.latency_ms)
        place = None
        if metrics is not None and known_ms is not None:
            place = place_of(plan.arch, known_ms, metrics["ap"] or 0.0, front)
        results = {"metrics": metrics, "test_metrics": test_metrics, "latency": values, "latency_ms": latency.ms}
        write_json(self._place / DETECTOR_FILE, self._description(epoch=epoch, **results))
        return Outcome(
            epoch=epoch,
            metrics=metrics,
            last_metrics=last_metrics,
            test_metrics=test_metrics,
            ap_spread=ap_spread,
            latency=latency,
            place=place,
            skipped_steps=skipped_steps,
            seconds=sum(each.seconds for each in self._training.history),
            device=testbed.device_description,
            versions=library_versions(),
        )

    def _metrics(self, role: str) -> Metrics:
        """Return COCO's metrics of the detector on the validation or the test images, as JSON values."""
        testbed, listener = self._session.testbed, self._session.listener
        images = testbed.splits.val if role == "val" else testbed.splits.test
        assert images is not None
        size = self._spec.input_size
        batches = testbed.val_batches(size) if role == "val" else testbed.test_batches(size)
        return json_values(
            testbed.evaluate(self._detector, images, batches, self._session.step("evaluate"), listener.note)
        )

    def _save(self, folder: Path, *, epoch: int, metrics: Metrics | None) -> None:
        self._session.folder.make(folder)
        save_weights(folder, self._detector, self._description(epoch=epoch, metrics=metrics))

    def _description(self, **results: Any) -> dict[str, Any]:
        plan = {name: value for name, value in dataclasses.asdict(self._plan).items() if name != "arch"}
        return describe_detector(self._session.testbed, self._plan.arch, {**plan, **results})

    def _write_curve(self) -> None:
        epochs = [
            {
                "epoch": each.epoch,
                "loss": None if math.isnan(each.loss) else each.loss,
                "ap": self._training.ap_by_epoch.get(each.epoch),
                "skipped_steps": each.skipped_steps,
                "seconds": each.seconds,
            }
            for each in self._training.history
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
