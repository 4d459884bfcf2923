"""CUDA graphs: work of fixed shapes, recorded once and replayed by one call.

A small detector keeps a GPU waiting: to launch its kernels one by one takes the host longer than to run them takes the
GPU. What is recorded must not wait for the device, and every number of the host's in it is the same in all replays.
``benchmarks/training_speed.py`` and ``smnas benchmark --runtime graph`` say what it gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from smnas_optuna.batch import Batch
from smnas_optuna.engine.steps import train_step
from smnas_optuna.errors import DeviceError

WARM_UP_CALLS = 3
"""Calls before the recording, in which libraries choose their algorithms and reserve their memory (PyTorch's notes on
CUDA semantics, whole-network capture)."""

Result = TypeVar("Result")
Runtime = Literal["eager", "graph"]
"""How a detector is run: kernel by kernel, or by graphs."""


def choose_runtime(choice: Literal["auto"] | Runtime, device: torch.device) -> Runtime:
    """How detectors are run on ``device``; ``auto`` is by graphs where there can be some.

    Raises:
        DeviceError: If graphs are asked for, and there are none.
    """
    if choice == "graph" and device.type != "cuda":
        raise DeviceError(
            f"runtime graph: there are no CUDA graphs on the device {device.type}",
            fix='take eager (--runtime eager, or [latency] runtime = "eager" in study.toml), or a GPU',
        )
    if choice == "auto":
        return "graph" if device.type == "cuda" else "eager"
    return choice


class Recorded(Generic[Result]):
    """A function of tensors, recorded for tensors of these shapes.

    Args:
        function: Works on the GPU without waiting for it.
        inputs: On the GPU, as all that follow.
    """

    def __init__(self, function: Callable[..., Result], inputs: Sequence[Tensor]) -> None:
        self._inputs = [each.clone() for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that draws a progress bar, may go on.
        with torch.cuda.device(inputs[0].device), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function(*self._inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> Result:
        """What the function returns for ``inputs``; the next call overwrites it."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result


class Aside:
    """Another stream, for what comes before a recording, in order with the work around it.

    A recording must not depend on work outside of it, as a backward pass may on the stream of the ones before.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def run(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            result = function()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result


class GraphDetector(nn.Module):
    """Detects as another detector does, by graphs, one for each shape of a batch.

    Where more pass the threshold than it has places for, or a suppression in fixed time was not finished, what comes
    after the network or all of it is done again, exactly and kernel by kernel.

    Args:
        detector: On a GPU, in evaluation mode, with weights that do not change; with ``candidates``, ``select``,
            ``select_in_fixed_time`` and ``detect`` of :class:`smnas_optuna.models.detector.Detector`.

    Attributes:
        batches: Detected so far.
        not_settled: Those of them of which some was done again.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.batches = self.not_settled = 0
        self._recorded: dict[tuple[str, torch.Size], Recorded[Any]] = {}

    @torch.inference_mode()
    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """As the detector's own."""
        detector: Any = self.detector

        def run(images: Tensor, sizes: Tensor, original_sizes: Tensor) -> tuple[Any, Any, Tensor]:
            given = replace(batch, images=images, sizes=sizes, original_sizes=original_sizes)  # on no more it depends
            candidates = detector.candidates(given, fixed_time=True)
            chosen = detector.select_in_fixed_time(candidates, given)
            exact = torch.ones_like(chosen.settled) if candidates.settled is None else candidates.settled
            return candidates, chosen, torch.cat((torch.stack((exact, chosen.settled)).long(), chosen.counts))

        inputs = [batch.images, batch.sizes, batch.original_sizes]
        candidates, chosen, numbers = self._replay("detections", run, inputs)
        exact, settled, *counts = numbers.tolist()  # waits for the device, once
        self.batches += 1
        if exact and settled:
            rows = zip(chosen.boxes.clone(), chosen.labels.clone(), chosen.scores.clone(), counts, strict=True)
            return [{"boxes": b[:count], "labels": n[:count], "scores": s[:count]} for b, n, s, count in rows]
        self.not_settled += 1
        return detector.select(candidates, batch) if exact else detector.detect(batch)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def fixed_work(self, images: Tensor) -> None:
        """Every layer once on Tensor[B, 3, H, W], by a graph of its own."""
        self._replay("layers", self.detector.fixed_work, [images])  # type: ignore[arg-type]

    def _replay(self, name: str, function: Callable[..., Result], inputs: Sequence[Tensor]) -> Result:
        key = (name, inputs[0].shape)
        if key not in self._recorded:
            aside = Aside(inputs[0].device)
            for _ in range(WARM_UP_CALLS):
                aside.run(lambda: function(*inputs))
            self._recorded[key] = Recorded(function, inputs)
        result: Result = self._recorded[key](inputs)
        return result


class GraphSteps:
    """Training steps by graphs, one for each canvas; all that it is called for are steps of the training.

    The first ones on a canvas are taken kernel by kernel.

    Args:
        detector: On a GPU; has ``losses(batch)``.
        optimizer: From :func:`smnas_optuna.engine.optimizer.build_optimizer`, with its learning rate on the GPU.
        clip_norm: Gradients are scaled to at most this norm.
    """

    def __init__(self, detector: nn.Module, optimizer: Optimizer, clip_norm: float) -> None:
        self._detector, self._optimizer, self._clip_norm = detector, optimizer, clip_norm
        self._aside = Aside(next(detector.parameters()).device)
        self._calls: dict[torch.Size, int] = {}
        self._recorded: dict[torch.Size, Recorded[tuple[Tensor, Tensor]]] = {}

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As :func:`smnas_optuna.engine.steps.train_step`; the next call overwrites what it returns."""
        canvas = batch.images.shape
        self._calls[canvas] = self._calls.get(canvas, 0) + 1
        if self._calls[canvas] <= WARM_UP_CALLS:
            return self._aside.run(lambda: self._step(*batch.tensors))
        if canvas not in self._recorded:
            self._recorded[canvas] = Recorded(self._step, batch.tensors)
        return self._recorded[canvas](batch.tensors)

    def _step(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return train_step(self._detector, Batch.of(tensors), self._optimizer, self._clip_norm)
