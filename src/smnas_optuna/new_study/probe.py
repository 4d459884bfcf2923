"""Facts of the device: training steps and detections of a few detectors, timed on random images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean

import torch

from smnas_optuna.allowance import has_bf16
from smnas_optuna.arch import DetectorConstants, DetectorSpec, encode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.batch import Batch, canvas_size
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.device import cpu_threads, describe_device, synchronize
from smnas_optuna.engine.graphs import WARM_UP_CALLS
from smnas_optuna.engine.memory import release_memory
from smnas_optuna.engine.train import Training
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.models import Detector, build_detector
from smnas_optuna.new_study.facts import DeviceFacts, Timed

TIMED_S, TIMED_CALLS = 2.0, 3
"""Steps are timed until they took so long and were so many."""
SLOW_S = 20.0
"""Seconds from which one call is enough."""


class _Enough(Exception):  # noqa: N818  # an event, not an error
    """Enough steps are timed."""


class RandomBatches:
    """One batch of noise with random boxes, again and again; a :class:`smnas_optuna.batch.BatchSource`.

    Args:
        spec: Gives the input size.
        num_images: Images of a batch.
        num_boxes: Boxes of each image, at least 1.
        num_classes: Number of foreground classes.
        device: Device that it lies on.
        count: Number of batches of an epoch.
    """

    def __init__(
        self, spec: DetectorSpec, num_images: int, num_boxes: int, num_classes: int, device: torch.device, count: int
    ) -> None:
        self._count = count
        height, width = canvas_size(spec.input_size.long, spec.input_size.short, portrait=False)
        random = torch.Generator().manual_seed(0)
        shape = (num_images, num_boxes)
        edges = torch.tensor([width, height], dtype=torch.float32)
        size = edges * (0.05 + 0.25 * torch.rand((*shape, 2), generator=random))
        corner = (edges - size) * torch.rand((*shape, 2), generator=random)
        sizes = torch.tensor([[height, width]]).expand(num_images, 2).contiguous()
        self._batch = Batch(
            images=torch.randint(0, 256, (num_images, 3, height, width), dtype=torch.uint8, generator=random),
            boxes=torch.cat([corner, corner + size], dim=-1),
            labels=torch.randint(1, num_classes + 1, shape, generator=random),
            crowd=torch.zeros(shape, dtype=torch.bool),
            num_boxes=torch.full((num_images,), num_boxes),
            image_ids=torch.arange(num_images),
            sizes=sizes,
            original_sizes=sizes.clone(),
            seeds=torch.zeros(num_images, dtype=torch.int64),
        ).to(device)

    def __len__(self) -> int:
        return self._count

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:  # noqa: ARG002  # the same one in every epoch
        """See :class:`smnas_optuna.batch.BatchSource`."""
        for _ in range(start, self._count):
            yield self._batch


def probe_device(
    device: torch.device,
    specs: Sequence[DetectorSpec],
    *,
    workers: int,
    threads: int | None,
    recipe: TrainSettings,
    constants: DetectorConstants,
    num_classes: int,
    num_boxes: int,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> DeviceFacts:
    """Time ``specs`` on ``device``, as a worker would train them; those that do not fit into memory are left out.

    Args:
        device: The device.
        specs: Architectures, cheapest first.
        workers: Workers of a search.
        threads: CPU threads of each; None for torch's own number.
        recipe: Recipe with which they are trained.
        constants: Constants of the detectors.
        num_classes: Number of foreground classes.
        num_boxes: Boxes of an image.
        on_step: Called with (detectors timed, all of them), and again at each timed step; may raise to stop.

    Raises:
        OutOfMemoryError: If not even the first fits.
    """
    timed: list[Timed] = []
    count = WorkCounter(num_classes, constants)
    with cpu_threads(threads):
        described = describe_device(device)
        for number, spec in enumerate(specs):
            try:
                check = partial(on_step, number, len(specs))
                step_s, detect_s, single_s = _time(device, spec, recipe, constants, num_classes, num_boxes, check)
            except OutOfMemoryError:
                if not timed:
                    raise
                break
            finally:
                release_memory()
            timed.append(
                Timed(
                    arch=encode(spec),
                    multiply_adds=count(spec).multiply_adds,
                    train_s=step_s / recipe.batch_size,
                    detect_s=detect_s / recipe.batch_size,
                    latency_ms=1000 * single_s,
                )
            )
            on_step(number + 1, len(specs))
    return DeviceFacts(
        kind="cuda" if device.type == "cuda" else "cpu",
        name=str(described["model"]),
        workers=workers,
        threads=int(described.get("threads", 0)),
        timed=tuple(timed),
        bf16=device.type == "cpu" and has_bf16(),
    )


def _time(
    device: torch.device,
    spec: DetectorSpec,
    recipe: TrainSettings,
    constants: DetectorConstants,
    num_classes: int,
    num_boxes: int,
    check: Callable[[], None],
) -> tuple[float, float, float]:
    """Return the seconds of a training step, of the detection in a batch, and of that in one image."""
    torch.manual_seed(0)
    learner = build_detector(spec, num_classes, constants).to(device)
    batches = RandomBatches(spec, recipe.batch_size, num_boxes, num_classes, device, count=1000)
    step_s = _step_s(learner, batches, recipe, device, check)
    batch = next(batches.epoch(0))
    busy = replace(constants, score_threshold=learner.busy_threshold(batch))
    detector = build_detector(spec, num_classes, busy).to(device)
    detector.load_state_dict(learner.state_dict())
    return step_s, _detect_s(detector, batch, device, check), _detect_s(detector, batch[:1], device, check)


def _step_s(
    detector: Detector, batches: RandomBatches, recipe: TrainSettings, device: torch.device, check: Callable[[], None]
) -> float:
    warm_up = 1 + WARM_UP_CALLS if device.type == "cuda" else 1
    ends = [time.perf_counter()]

    def on_step(*_: int) -> None:
        synchronize(device)
        ends.append(time.perf_counter())
        check()
        timed = ends[warm_up:]
        if _is_enough(len(timed) - 1, timed[-1] - timed[0] if timed else 0.0, ends[-1] - ends[0]):
            raise _Enough

    with suppress(_Enough):
        Training(detector, batches, recipe, seed=0).run(on_step=on_step)
    timed = ends[warm_up:] if len(ends) > warm_up + 1 else ends
    return fmean(after - before for before, after in pairwise(timed))


@torch.inference_mode()
def _detect_s(detector: Detector, batch: Batch, device: torch.device, check: Callable[[], None]) -> float:
    detector.eval()
    seconds: list[float] = []
    while not _is_enough(len(seconds) - 1, sum(seconds[1:]), sum(seconds)):
        begin = time.perf_counter()
        detector.detect(batch)
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
        check()
    return fmean(seconds[1:] or seconds)


def _is_enough(calls: int, timed_s: float, all_s: float) -> bool:
    return (calls >= TIMED_CALLS and timed_s >= TIMED_S) or (calls >= 0 and all_s >= SLOW_S)
