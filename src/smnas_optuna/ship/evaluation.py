"""Evaluation of a detector and of its exported file on the same images, one by one, as the file is used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from smnas_optuna.arch import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.models import Detector
from smnas_optuna.runtime.sessions import Runner
from smnas_optuna.session.prepare import Session
from smnas_optuna.session.shipped import FileDetector
from smnas_optuna.ship.comparison import Objects


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Objects that a detector found in each validation image, and COCO's metrics of all."""

    found: list[Objects]
    metrics: CocoMetrics


def evaluate_detector(session: Session, detector: Detector) -> Evaluation:
    """Evaluate a detector on the validation images, on the CPU."""
    return _evaluate(session, detector, detector)


def evaluate_file(session: Session, detector: Detector, runner: Runner) -> Evaluation:
    """Evaluate an exported file on the validation images; ``detector`` is what it was exported from."""
    return _evaluate(session, detector, FileDetector(lambda _: runner))


def _evaluate(session: Session, like: Detector, module: nn.Module) -> Evaluation:
    """Evaluate ``module`` at the input size of ``like``."""
    testbed = session.testbed
    one_by_one = _OneByOne(module)
    metrics = testbed.evaluate(
        one_by_one,
        testbed.splits.val,
        testbed.single_val_images(InputSize(long=like.long, short=like.short)),
        session.step("evaluate"),
        session.listener.note,
    )
    return Evaluation(found=one_by_one.found, metrics=metrics)


class _OneByOne(nn.Module):
    """Detects in batches of one image, and keeps what it found in pixels of the canvas."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module: Any = module
        self.found: list[Objects] = []

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the objects of the only image, in original pixels."""
        assert len(batch) == 1
        (found,) = self._module.detect(replace(batch, original_sizes=batch.sizes))
        boxes, labels, scores = (found[name].numpy() for name in ("boxes", "labels", "scores"))
        self.found.append(Objects(boxes=boxes, labels=labels, scores=scores))
        scale = (batch.original_sizes / batch.sizes).flip(1).repeat(1, 2)
        return [{**found, "boxes": found["boxes"] * scale}]
