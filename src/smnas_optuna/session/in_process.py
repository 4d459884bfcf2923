"""The executor of one machine: it trains in this process, on the device of its session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from smnas_optuna.data import DetectionLoader
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.models import Detector
from smnas_optuna.session.executor import Images, Job, Trained, Watch
from smnas_optuna.session.pace import judge_pace
from smnas_optuna.session.resumable import ResumableTraining, begin_training
from smnas_optuna.session.samples import Detections, choose_images, found_in
from smnas_optuna.session.testbed import Testbed


class InProcess:
    """Trains in this process.

    Args:
        testbed: Data and device.
        ranks: Processes that train together, of which this is number 0; None if it is alone. The others hear from where
            each training begins.
    """

    def __init__(self, testbed: Testbed, ranks: Ranks | None = None) -> None:
        self._testbed, self._ranks = testbed, ranks

    @property
    def device(self) -> Mapping[str, str | int]:
        """See :class:`smnas_optuna.session.executor.Executor`."""
        return self._testbed.training_device

    def train(self, job: Job, watch: Watch) -> Trained:
        """See :meth:`smnas_optuna.session.executor.Executor.train`."""
        return _Run(self._testbed, job, watch, self._ranks).result()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


class _Run:
    """One training with its evaluations."""

    def __init__(self, testbed: Testbed, job: Job, watch: Watch, ranks: Ranks | None) -> None:
        self._testbed = testbed.with_val if job.with_val else testbed
        self._job, self._watch, self._ranks = job, watch, ranks
        self._detector: Detector = testbed.build(job.spec, job.seed)
        self._batches: dict[Images, DetectionLoader] = {}
        self._found: Detections = {}
        self._elsewhere_s = 0.0

    def result(self) -> Trained:
        job, watch, testbed = self._job, self._watch, self._testbed
        with watch.phase("load"):
            batches = testbed.train_batches(job.spec.input_size, job.seed)
            if job.rungs or "val" in job.images:
                self._batches["val"] = testbed.val_batches(job.spec.input_size)
        with watch.phase("train"):
            skipped = self._train(batches)
        metrics: dict[Images, CocoMetrics] = {}
        for images in job.images:
            if images not in self._batches:
                with watch.phase("load"):
                    self._batches[images] = testbed.test_batches(job.spec.input_size)
            with watch.phase("evaluate"):
                metrics[images] = self._evaluate(images)
        return Trained(detector=self._detector, metrics=metrics, found=self._found, skipped_steps=skipped)

    def _train(self, batches: DetectionLoader) -> int:
        """Train from the start, or from where an earlier attempt stopped; return the number of skipped steps."""
        job, testbed = self._job, self._testbed
        device = testbed.training_device
        same = {"device": {name: device[name] for name in ("kind", "threads") if name in device}}
        resumable = begin_training(
            testbed,
            job.spec,
            self._detector,
            batches,
            job.recipe,
            seed=job.seed,
            checkpoint=job.checkpoint,
            key={**same, **job.key},
            make_folder=job.make_folder,
            note=self._watch.note,
            ranks=self._ranks,
        )
        if self._ranks is not None:
            self._ranks.announce(resumable.training.state())
        self._watch.begun(resumable.training.history, device)

        def on_epoch(report: EpochReport) -> None:
            self._watch.epoch(report)
            self._pass_rung(resumable)

        begin = partial(self._pass_rung, resumable)
        return resumable.run(on_step=self._on_training_step(), on_epoch=on_epoch, on_begin=begin)

    def _pass_rung(self, resumable: ResumableTraining) -> None:
        """Measure the AP of a training that is at a rung, and report all of them.

        The training's state has the APs that earlier attempts measured, and the next checkpoint stores the new one. If
        the process dies or is stopped before all is reported, it is measured again, with the same result.
        """
        training = resumable.training
        epoch, aps = training.epochs_done, dict(training.ap_by_epoch)
        at_rung = epoch in self._job.rungs and not training.step
        if at_rung and epoch not in aps:
            with self._elsewhere(), self._watch.phase("rungs"):
                metrics = self._evaluate("val")
            aps[epoch] = metrics.ap
            self._watch.measured(epoch, metrics)
        if self._job.rungs and aps:
            self._watch.standing(dict(aps), epoch if at_rung else None)
        training.ap_by_epoch.update(aps)

    def _evaluate(self, images: Images) -> CocoMetrics:
        splits = self._testbed.splits
        dataset = splits.val if images == "val" else splits.test
        assert dataset is not None

        def take(rows: Sequence[dict[str, Any]]) -> None:
            if images == "val":
                self._found = found_in(choose_images(splits.val), rows, splits.val.category_ids)

        step = partial(self._watch.step, "evaluate")
        batches = self._batches[images]
        return self._testbed.evaluate(self._detector, dataset, batches, step, self._watch.note, take)

    def _on_training_step(self) -> Callable[[int, int], None]:
        """Return the function that training calls after each step; time runs from now on."""
        step = partial(self._watch.step, "train")
        limit = self._job.max_seconds
        if limit is None:
            return step
        judge = judge_pace(limit, self._testbed.device, lambda: time.perf_counter() - self._elsewhere_s)

        def on_step(done: int, total: int) -> None:
            judge(done, total)
            with self._elsewhere():  # it may pause for the measurement of another worker
                step(done, total)

        return on_step

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Count the time of the body as none of the training's."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._elsewhere_s += time.perf_counter() - begin
