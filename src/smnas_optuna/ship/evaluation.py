"""Evaluation of a detector and of its exported file on the same images, one by one, as the file is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smnas_optuna.arch import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.models import Detector
from smnas_optuna.runtime.sessions import Runner
from smnas_optuna.session.prepare import Session
from smnas_optuna.ship.comparison import Objects

Detect = Callable[[Batch], dict[str, Tensor]]
"""Returns what is found in a batch of one image: boxes Tensor[D, 4] in pixels of the canvas, labels and scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Objects that a detector found in each validation image, and COCO's metrics of all."""

    found: list[Objects]
    metrics: CocoMetrics


def evaluate_detector(session: Session, detector: Detector) -> Evaluation:
    """Evaluate a detector on the validation images, on the CPU."""

    def detect(one: Batch) -> dict[str, Tensor]:
        on_canvas = replace(one, original_sizes=one.sizes)
        return detector.detect(on_canvas)[0]

    return _evaluate(session, detector, detect)


def evaluate_file(session: Session, detector: Detector, runner: Runner) -> Evaluation:
    """Evaluate an exported file on the validation images; ``detector`` is what it was exported from."""

    def detect(one: Batch) -> dict[str, Tensor]:
        found = runner.run(one.images.numpy(), one.sizes.numpy())
        count = int(found.counts[0])
        parts: dict[str, NDArray[Any]] = {"boxes": found.boxes, "labels": found.labels, "scores": found.scores}
        return {name: torch.from_numpy(part[0, :count].copy()) for name, part in parts.items()}

    return _evaluate(session, detector, detect)


def _evaluate(session: Session, detector: Detector, detect: Detect) -> Evaluation:
    testbed = session.testbed
    one_by_one = _OneByOne(detect)
    metrics = testbed.evaluate(
        one_by_one,
        testbed.splits.val,
        testbed.single_val_images(InputSize(long=detector.long, short=detector.short)),
        session.step("evaluate"),
        session.listener.note,
    )
    return Evaluation(found=one_by_one.found, metrics=metrics)


class _OneByOne(nn.Module):
    """Detects in batches of one image, and keeps what it found in pixels of the canvas."""

    def __init__(self, detect: Detect) -> None:
        super().__init__()
        self._detect = detect
        self.found: list[Objects] = []

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the objects of the only image, in original pixels."""
        assert len(batch) == 1
        found = self._detect(batch)
        boxes, labels, scores = (found[name].numpy() for name in ("boxes", "labels", "scores"))
        self.found.append(Objects(boxes=boxes, labels=labels, scores=scores))
        scale = (batch.original_sizes / batch.sizes).flip(1).repeat(1, 2)
        return [{**found, "boxes": found["boxes"] * scale}]
