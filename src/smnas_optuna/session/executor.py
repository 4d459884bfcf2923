"""What trains a detector: here, or elsewhere. Who asks for a training does not know which it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.models import Detector
from smnas_optuna.session.samples import Detections

Images = Literal["val", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A training that is wanted, with the evaluation after it.

    Attributes:
        spec: Architecture of the detector.
        seed: Seed of weights, order and augmentation.
        recipe: Epochs, optimizer and the rest.
        checkpoint: File in the study folder that keeps the training while it is not finished.
        key: Everything that a checkpoint must have been made with to be resumed, as JSON values. An executor adds the
            kind of device that trains and its CPU threads, unless ``device`` is there.
        make_folder: Makes the folder of the checkpoint if it is gone, and raises if it has become a link meanwhile.
        rungs: Epochs after which the AP on the validation images is measured.
        max_seconds: Maximum time of the training; None for no limit.
        images: What the trained detector is evaluated on.
        with_val: True if the validation images are trained on, too.
    """

    spec: DetectorSpec
    seed: int
    recipe: TrainSettings
    checkpoint: Path
    key: Mapping[str, Any]
    make_folder: Callable[[], object]
    rungs: tuple[int, ...] = ()
    max_seconds: float | None = None
    images: tuple[Images, ...] = ("val",)
    with_val: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """A trained detector.

    Attributes:
        detector: The detector with its weights, on the device of the session that asked.
        metrics: COCO's metrics on each of the job's images.
        found: Detections in the few validation images that pictures show.
        skipped_steps: Number of steps that were skipped, because their gradients were not finite.
    """

    detector: Detector
    metrics: Mapping[Images, CocoMetrics]
    found: Detections
    skipped_steps: int


class TooSlow(Exception):  # noqa: N818  # an outcome, not an error
    """A training would take longer than its job allows.

    Args:
        seconds: Estimated time of the whole training.
        is_estimate: False if that much has been spent, and the rest could not be estimated.
    """

    def __init__(self, seconds: float, *, is_estimate: bool) -> None:
        super().__init__(seconds, is_estimate)
        self.seconds, self.is_estimate = seconds, is_estimate


class Watch:
    """Receives what happens in a training, and does nothing with it: override what is of interest.

    Every method may raise, which ends the training; :class:`smnas_optuna.workers.interrupt.Interrupted` keeps it.
    """

    def note(self, line: str) -> None:
        """Receive a line for people and for the log of the training."""

    def begun(self, history: Sequence[EpochReport], device: Mapping[str, str | int]) -> None:
        """Receive the epochs that earlier attempts have finished, and the device that trains."""

    def step(self, phase: str, done: int, total: int) -> None:
        """Receive the progress of a phase (``train``, ``evaluate``): steps done, all steps."""

    def epoch(self, report: EpochReport) -> None:
        """Receive a finished epoch. It is stored by now, and never trained again."""

    def measured(self, epoch: int, metrics: CocoMetrics) -> None:
        """Receive COCO's metrics on the validation images that were measured at a rung; :meth:`standing` follows."""

    def standing(self, ap_by_epoch: Mapping[int, float], rung: int | None) -> None:
        """Receive all APs of the rungs so far, at the beginning and after each epoch; the training waits.

        Args:
            ap_by_epoch: AP in [0, 1] by epoch; not empty.
            rung: The rung that the training has just reached; None between two rungs.
        """

    def phase(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Be in a phase (``load``, ``train``, ``rungs``, ``evaluate``) while a body runs; phases may be nested."""
        return nullcontext()

    def spent(self, phase: str, seconds: float) -> None:
        """Receive the seconds of a phase that passed elsewhere."""


class Executor(Protocol):
    """Trains detectors, one at a time for each caller."""

    @property
    def device(self) -> Mapping[str, str | int]:
        """The device that trains, as far as it is known before: its kind, and on a CPU the threads."""

    def train(self, job: Job, watch: Watch) -> Trained:
        """Train and evaluate a detector, from where an earlier attempt stopped.

        Raises:
            DivergenceError: If training diverged.
            OutOfMemoryError: If the detector does not fit into memory.
            TooSlow: If it would take longer than ``job.max_seconds``.
            DeviceFault: If the GPU failed, and this process cannot use it any more.
            Interrupted: If ``watch`` raised it; the training is stored, and resumed later.
        """

    def wait(self, seconds: float) -> None:
        """Do nothing for some time, and keep nobody from working."""
