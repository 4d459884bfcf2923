"""Resumable training: stored after each epoch and when it is asked to stop, and resumed from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.allowance import free_memory
from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.config import TrainSettings
from smnas_optuna.data import DetectionLoader
from smnas_optuna.engine.checkpoint import resume, save_checkpoint
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.memory import estimate_training, fitting_micro_batch
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.models import Detector
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.workers.interrupt import Interrupted


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumableTraining:
    """A training and the checkpoint that keeps it.

    Attributes:
        training: The training, with the state that an earlier attempt stored.
        checkpoint: File of the checkpoint.
        key: Everything that a checkpoint must have been made with to be resumed.
        make_folder: Makes the checkpoint's folder if it is gone, and raises if it has become a link meanwhile.
    """

    training: Training
    checkpoint: Path
    key: Mapping[str, Any]
    make_folder: Callable[[], object]

    def run(
        self,
        *,
        on_step: Callable[[int, int], None],
        on_epoch: Callable[[EpochReport], None],
        on_begin: Callable[[], None] = lambda: None,
    ) -> int:
        """Train to the end, and return the number of skipped steps.

        Args:
            on_step: Called after each step with (steps done, all steps); may raise to stop.
            on_epoch: Called after each epoch, once it is stored: an epoch that is reported is never trained again.
            on_begin: Called first. It may evaluate the detector, as an earlier attempt may have ended before that.

        Raises:
            DivergenceError: If training diverged.
            Interrupted: If asked to stop; the state at the current step is stored.
        """

        def store_and_report(report: EpochReport) -> None:
            self._store()
            on_epoch(report)

        try:
            on_begin()
            return self.training.run(on_step=on_step, on_epoch=store_and_report)
        except Interrupted:
            self._store()
            raise

    def _store(self) -> None:
        self.make_folder()
        save_checkpoint(self.checkpoint, self.training.state(), self.key)


def begin_training(
    testbed: Testbed,
    spec: DetectorSpec,
    detector: Detector,
    batches: DetectionLoader,
    recipe: TrainSettings,
    *,
    seed: int,
    checkpoint: Path,
    key: Mapping[str, Any],
    make_folder: Callable[[], object],
    note: Callable[[str], None],
    ranks: Ranks | None = None,
) -> ResumableTraining:
    """Return a training of ``detector`` from the start, or from the checkpoint of an earlier attempt.

    Args:
        testbed: Data and device.
        spec: Architecture of the detector.
        detector: Detector, freshly initialised with ``seed``.
        batches: Training images.
        recipe: Epochs, optimizer and the rest.
        seed: Seed of order and augmentation.
        checkpoint: File of the checkpoint.
        key: See :class:`ResumableTraining`; a checkpoint with another key is set aside.
        make_folder: See :class:`ResumableTraining`.
        note: Receives lines for people.
        ranks: Processes that train together, of which this one stores; None if it is the only one.

    Raises:
        OutOfMemoryError: If main memory has no room for a single image.
    """
    micro_batch = fitting_images(testbed, detector, spec)
    training = Training(detector, batches, recipe, seed=seed, micro_batch=micro_batch, note=note, ranks=ranks)
    if resume(checkpoint, training, key, note):
        note(f"{encode(spec)}: resumes after epoch {training.epochs_done}, step {training.step} of the next")
    return ResumableTraining(training=training, checkpoint=checkpoint, key=key, make_folder=make_folder)


def fitting_images(testbed: Testbed, detector: Detector, spec: DetectorSpec) -> int | None:
    """Return the number of images to train on at a time so that main memory suffices; None on a GPU.

    A GPU that is too small raises an error. Linux kills the process where CUDA raises, so the first guess on a CPU is
    an estimate.

    Raises:
        OutOfMemoryError: If there is no room for a single image.
    """
    if testbed.device.type != "cpu":
        return None
    size, max_boxes = spec.input_size, testbed.splits.train.max_boxes
    memory, free = estimate_training(detector, size.long, size.short, max_boxes=max_boxes), free_memory()
    fitting = fitting_micro_batch(memory, testbed.settings.train.batch_size, free)
    if fitting == 0:
        needed = memory.fixed_bytes + memory.bytes_per_image
        raise OutOfMemoryError(
            f"training with one image a step takes about {needed / 2**20:,.0f} MiB of main memory, "
            f"and {free / 2**20:,.0f} MiB are free",
            fix="end what else uses memory, or use smaller values in the search space",
        )
    return fitting
