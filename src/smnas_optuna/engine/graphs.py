"""CUDA graphs: work with fixed shapes, recorded once and replayed with one call.

With a small detector the GPU is often idle: launching the kernels one by one takes longer than running them. Recorded
work must not wait for the device, and numbers of the host are constants in all replays. The gain is measured by
``benchmarks/training_speed.py`` and ``smnas benchmark --runtime graph``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from smnas_optuna.batch import Batch
from smnas_optuna.engine.steps import train_step

WARM_UP_CALLS = 3
"""Calls before the recording, in which libraries choose algorithms and reserve memory (PyTorch's notes on CUDA
semantics, whole-network capture)."""

Result = TypeVar("Result")


class Recorded(Generic[Result]):
    """A function of tensors, recorded as a CUDA graph for the shapes of ``inputs``.

    Args:
        function: Runs on the GPU without waiting for it.
        inputs: Example inputs on the GPU; later inputs have the same shapes and device.
    """

    def __init__(self, function: Callable[..., Result], inputs: Sequence[Tensor]) -> None:
        self._inputs = [each.clone() for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: other threads, such as that of a progress bar, may call CUDA during the recording.
        with torch.cuda.device(inputs[0].device), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function(*self._inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> Result:
        """Return the function's result for ``inputs``; the next call overwrites it."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result


class Aside:
    """A side stream for the warm-up before a recording, synchronized with the current stream.

    A recording must not depend on work outside of it; a backward pass could depend on the stream of earlier passes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def run(self, function: Callable[[], Result]) -> Result:
        """Return the result of ``function``, run on this stream."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            result = function()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result


class GraphDetector(nn.Module):
    """Runs another detector as CUDA graphs, one for each shape of a batch, with the same detections.

    If more candidates pass the threshold than the graph has room for, or NMS in fixed time did not finish, the
    post-processing or the whole detection is repeated exactly, kernel by kernel.

    Args:
        detector: On a GPU, in evaluation mode, with constant weights; has ``candidates``, ``select``,
            ``select_in_fixed_time`` and ``detect`` of :class:`smnas_optuna.models.detector.Detector`.

    Attributes:
        batches: Number of batches so far.
        not_settled: Number of batches with a repeated part.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.batches = self.not_settled = 0
        self._recorded: dict[tuple[str, torch.Size], Recorded[Any]] = {}

    @torch.inference_mode()
    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the detections of ``batch``, as the detector's own ``detect`` does."""
        detector: Any = self.detector

        def run(images: Tensor, sizes: Tensor, original_sizes: Tensor) -> tuple[Any, Any, Tensor]:
            given = replace(batch, images=images, sizes=sizes, original_sizes=original_sizes)  # no other field is used
            candidates = detector.candidates(given, fixed_time=True)
            chosen = detector.select_in_fixed_time(candidates, given)
            exact = torch.ones_like(chosen.settled) if candidates.settled is None else candidates.settled
            return candidates, chosen, torch.cat((torch.stack((exact, chosen.settled)).long(), chosen.counts))

        inputs = [batch.images, batch.sizes, batch.original_sizes]
        candidates, chosen, numbers = self._replay("detections", run, inputs)
        exact, settled, *counts = numbers.tolist()  # the only wait for the device
        self.batches += 1
        if exact and settled:
            rows = zip(chosen.boxes.clone(), chosen.labels.clone(), chosen.scores.clone(), counts, strict=True)
            return [{"boxes": b[:count], "labels": n[:count], "scores": s[:count]} for b, n, s, count in rows]
        self.not_settled += 1
        return detector.select(candidates, batch) if exact else detector.detect(batch)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def fixed_work(self, images: Tensor) -> None:
        """Run every layer once on Tensor[B, 3, H, W], as a separate graph."""
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
    """Training steps as CUDA graphs, one for each canvas; every call is one step of the training.

    The first ``WARM_UP_CALLS`` steps on a canvas run kernel by kernel.

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
        """Run :func:`smnas_optuna.engine.steps.train_step`; the next call overwrites the result."""
        canvas = batch.images.shape
        self._calls[canvas] = self._calls.get(canvas, 0) + 1
        if self._calls[canvas] <= WARM_UP_CALLS:
            return self._aside.run(lambda: self._step(*batch.tensors))
        if canvas not in self._recorded:
            self._recorded[canvas] = Recorded(self._step, batch.tensors)
        return self._recorded[canvas](batch.tensors)

    def _step(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return train_step(self._detector, Batch.of(tensors), self._optimizer, self._clip_norm)
