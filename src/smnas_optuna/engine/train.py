"""Training from scratch: linear warm-up, cosine schedule, gradient clipping, steps with non-finite gradients skipped.

It can stop after any step and resume, in this or another process, and then gives exactly the same weights on a CPU; on
a GPU sums of some kernels have no fixed order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.device import explained_out_of_memory
from smnas_optuna.engine.graphs import GraphSteps
from smnas_optuna.engine.memory import ImagesAtOnce, release_memory
from smnas_optuna.engine.optimizer import build_optimizer, highest_rate, set_rate, warmup_cosine
from smnas_optuna.engine.skips import SkipGuard
from smnas_optuna.engine.state import (
    TrainingState,
    check_generators,
    generator_states,
    misfit,
    seed_generators,
    set_generators,
)
from smnas_optuna.engine.steps import accumulate_gradients, apply_gradients, in_bf16, train_step
from smnas_optuna.errors import CheckpointError, OutOfMemoryError

__all__ = ["EpochReport", "Training", "build_optimizer", "train", "train_step"]

MODEL = "model."
"""Beginning of the names of a detector's own tensors in the state of its training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """Result of one epoch: number (from 1), total epochs, mean loss, steps skipped so far, duration in seconds.

    The loss is the mean over the steps that were not skipped, NaN if there was none.
    """

    epoch: int
    epochs: int
    loss: float
    skipped_steps: int
    seconds: float


def train(
    detector: nn.Module,
    batches: BatchSource,
    settings: TrainSettings,
    *,
    on_step: Callable[[int, int], None] = lambda *_: None,
    on_epoch: Callable[[EpochReport], None] = lambda *_: None,
) -> int:
    """Run a :class:`Training` with a seed from torch's global generator; return the number of skipped steps."""
    seed = int(torch.randint(2**62, ()))
    return Training(detector, batches, settings, seed=seed).run(on_step=on_step, on_epoch=on_epoch)


class Training:
    """The training of one detector, in place.

    Args:
        detector: Has ``losses(batch)``, averaged over the images.
        batches: Training batches on the detector's device.
        settings: The recipe.
        seed: Not negative; epoch ``i`` depends only on it, on ``batches`` and on the weights before the epoch.
        micro_batch: Largest number of images at once; the whole batch by default. Without BatchNorm the weights depend
            on it only by the order of summation (see :func:`smnas_optuna.engine.steps.accumulate_gradients`).
        note: Called when memory runs out, with the new number of images at once.
        ranks: Processes that take each step together, all with the same arguments; None if this is the only one.
        recorded: True if steps on a GPU may be recorded as a graph; those of several processes never are.

    Attributes:
        history: The finished epochs, in order.
        step: Finished steps of the current epoch, 0 between epochs.
        ap_by_epoch: AP in [0, 1] after some epochs, set by the caller that measures it; part of the state.
    """

    def __init__(
        self,
        detector: nn.Module,
        batches: BatchSource,
        settings: TrainSettings,
        *,
        seed: int,
        micro_batch: int | None = None,
        note: Callable[[str], None] = lambda _: None,
        ranks: Ranks | None = None,
        recorded: bool = True,
    ) -> None:
        self.history: list[EpochReport] = []
        self.step = 0
        self.ap_by_epoch: dict[int, float] = {}
        self._detector, self._batches, self._settings, self._seed = detector, batches, settings, seed
        self._device = next(detector.parameters()).device
        self._total = len(batches) * settings.epochs
        self._optimizer = build_optimizer(detector, settings)
        records = recorded and self._device.type == "cuda" and ranks is None
        self._graphs = GraphSteps(detector, self._optimizer, settings.clip_norm) if records else None
        self._ranks = ranks
        self._guard = SkipGuard(self._total, self._device)
        # of the current epoch: sum of the losses of steps that were not skipped, and their number; seconds
        self._losses = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._seconds = 0.0
        self._generators: dict[str, Tensor] = {}  # after the last step
        self._at_once = ImagesAtOnce(micro_batch or settings.batch_size)
        self._note = note

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def steps_done(self) -> int:
        """Number of finished steps of the whole training."""
        return self.epochs_done * len(self._batches) + self.step

    @property
    def micro_batch(self) -> int:
        """Largest number of images at once; halved each time memory runs out."""
        return self._at_once.size

    def run(
        self,
        *,
        on_step: Callable[[int, int], None] = lambda *_: None,
        on_epoch: Callable[[EpochReport], None] = lambda *_: None,
    ) -> int:
        """Train from the current state until all epochs are finished; return the number of skipped steps.

        If a step does not fit into memory, it and all later ones are processed in parts of half as many images.

        Args:
            on_step: Called after each step with (steps done, total number of steps); may raise to stop, and
                :meth:`state` is then that after this step. On CUDA the device may be some steps behind.
            on_epoch: Called after each epoch, when :meth:`state` is that between epochs; may raise to stop.

        Raises:
            DivergenceError: If too many steps had losses or gradients that are not finite.
            OutOfMemoryError: If not even one image fits into memory.
        """
        while self.epochs_done < self._settings.epochs:
            self._run_epoch(on_step)
            on_epoch(self._end_epoch())
        return self._guard.read(self.steps_done)

    def state(self) -> TrainingState:
        """Return a copy of everything that the rest of the training depends on; complete after any step."""
        tensors = {**self._tensors(), **(self._generators if self.step else {})}
        history = [{**asdict(each), "loss": None if math.isnan(each.loss) else each.loss} for each in self.history]
        return TrainingState(
            tensors={name: each.detach().to("cpu", copy=True).contiguous() for name, each in tensors.items()},
            values={
                **self._identity(),
                "step": self.step,
                "seconds": self._seconds,
                "history": history,
                "ap_by_epoch": {str(epoch): ap for epoch, ap in self.ap_by_epoch.items()},
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Resume from ``state`` of another training with the same detector, batches, recipe and seed.

        Raises:
            CheckpointError: If it does not fit; nothing is changed then.
        """
        step, seconds, history = self._progress(state.values)
        ap_by_epoch = _ap_by_epoch(state.values.get("ap_by_epoch", {}), len(history))
        tensors = self._tensors()
        generators = generator_states(self._device) if step else {}
        problem = misfit({**tensors, **generators}, state.tensors)
        if problem is not None:
            raise _unfit(problem)
        generators = {name: state.tensors[name].clone() for name in generators}
        if step:
            try:
                check_generators(generators, self._device)
            except RuntimeError as error:
                raise _unfit(f"the states of the random generators are invalid ({error})") from error
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(state.tensors[name])
        self.step, self._seconds, self.history, self._generators = step, seconds, history, generators
        self.ap_by_epoch = ap_by_epoch

    def _run_epoch(self, on_step: Callable[[int, int], None]) -> None:
        self._detector.train()  # an evaluation between two epochs sets evaluation mode
        if self.step:
            set_generators(self._generators, self._device)
        else:
            seed_generators(self._seed, self.epochs_done)
        before = time.perf_counter()
        for batch in self._batches.epoch(self.epochs_done, self.step):
            loss, finite = self._train_step(batch)
            self._losses += torch.stack((loss.double().where(finite, 0.0), finite.double()))
            self.step += 1
            self._generators = generator_states(self._device)
            now = time.perf_counter()
            self._seconds, before = self._seconds + now - before, now
            self._guard.count(finite, self.steps_done)
            on_step(self.steps_done, self._total)

    def _train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        factor = warmup_cosine(self.steps_done, self._total, self._settings.warmup)
        set_rate(self._optimizer, highest_rate(self._settings) * factor)
        if self._graphs is not None and self._at_once.size >= len(batch):
            try:
                with explained_out_of_memory():
                    return self._graphs(batch)
            except OutOfMemoryError as error:
                self._note(f"{error.message}; from now on without CUDA graphs")
            # Nothing was changed: a recording does not compute, and a step changes the weights last.
            self._graphs = None
            release_memory()

        part = batch if self._ranks is None else self._ranks.part(batch)

        def gradients(images: int) -> Tensor:
            self._optimizer.zero_grad()
            return accumulate_gradients(self._detector, part, images, bf16=in_bf16(self._settings, self._device))

        def give_way(text: str) -> None:
            self._optimizer.zero_grad()
            self._note(text)

        loss = self._at_once.run(gradients, len(part), give_way)
        if self._ranks is not None:
            loss = self._ranks.sum_up(self._detector, loss, len(part) / len(batch))
        return loss, apply_gradients(self._detector, loss, self._optimizer, self._settings.clip_norm)

    def _end_epoch(self) -> EpochReport:
        skipped = self._guard.read(self.steps_done)
        total, taken = self._losses.tolist()
        report = EpochReport(
            epoch=self.epochs_done + 1,
            epochs=self._settings.epochs,
            loss=total / taken if taken else math.nan,
            skipped_steps=skipped,
            seconds=self._seconds,
        )
        self.history.append(report)
        self.step, self._seconds, self._generators = 0, 0.0, {}
        self._losses.zero_()
        return report

    def _tensors(self) -> dict[str, Tensor]:
        """Return the live tensors of the state, without the generators; all of them are stored and restored."""
        moments = {
            f"optimizer.{name}.{key}": value
            for name, parameter in self._detector.named_parameters()
            for key, value in self._optimizer.state[parameter].items()
        }
        model = {MODEL + name: value for name, value in self._detector.state_dict().items()}
        return {**model, **moments, "skips": self._guard.counts, "losses": self._losses}

    def _identity(self) -> dict[str, Any]:
        """Return the values that a state must share with this training, besides the shapes of the tensors."""
        return {"seed": self._seed, "epochs": self._settings.epochs, "steps_per_epoch": len(self._batches)}

    def _progress(self, values: Mapping[str, Any]) -> tuple[int, float, list[EpochReport]]:
        """Return step, seconds and history of a state.

        Raises:
            CheckpointError: If they are invalid or those of another training.
        """
        for name, mine in self._identity().items():
            if values.get(name) != mine:
                raise _unfit(f"{name} is {values.get(name)} instead of {mine}")
        step, seconds, epochs = values.get("step"), values.get("seconds"), values.get("history")
        if not isinstance(step, int) or not isinstance(seconds, float) or not isinstance(epochs, Sequence):
            raise _unfit("step, seconds or history are missing")
        history = [_report(each) for each in epochs]
        numbers = [each.epoch for each in history]
        left = self._settings.epochs - len(history)
        if numbers != list(range(1, len(history) + 1)) or not 0 <= step <= len(self._batches) * min(left, 1):
            raise _unfit(f"step {step} after the epochs {numbers} does not exist in this training")
        return step, seconds, history


def _report(values: Any) -> EpochReport:
    if not isinstance(values, Mapping) or values.keys() != {field.name for field in fields(EpochReport)}:
        raise _unfit("an epoch of the history has other fields")
    report = EpochReport(**{**values, "loss": math.nan if values["loss"] is None else values["loss"]})
    if not all(isinstance(value, int | float) for value in asdict(report).values()):
        raise _unfit("an epoch of the history has values that are not numbers")
    return report


def _ap_by_epoch(values: Any, epochs_done: int) -> dict[int, float]:
    epochs = {str(epoch): epoch for epoch in range(1, epochs_done + 1)}
    if not isinstance(values, Mapping) or not values.keys() <= epochs.keys():
        raise _unfit(f"AP by epoch has other epochs than the {epochs_done} finished ones")
    if not all(isinstance(ap, int | float) and 0 <= ap <= 1 for ap in values.values()):
        raise _unfit("AP by epoch has values that are not in 0..1")
    return {epochs[epoch]: float(ap) for epoch, ap in values.items()}


def _unfit(problem: str) -> CheckpointError:
    return CheckpointError(f"state of another training: {problem}", fix="restore a state of the same training")
