"""Rules for the constants of all detectors and the training recipe. No torch."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from smnas_optuna.new_study.facts import Asked, Chosen, DataFacts

Kind = Literal["cpu", "cuda"]

STEPS_AT, STEPS_HOURS = 800, 0.5
"""Steps of a training in a search of so many hours: the measured studies have 400 to 1,200."""
STEPS_POWER = 0.2
"""Power of the hours that the steps grow with; the rest of the time goes into more and larger trainings. A choice."""
LEAST_EPOCHS, ENOUGH_STEPS = 6, 1500
"""Epochs of a training, where they are no more than so many steps. On 800 circuit boards (DeepPCB, batches of 4,
160 px, one seed) a ResNet-18 had AP 8.0, 12.2, 16.6 and 24.8 (x100) with 2, 3, 4 and 6 epochs."""
MAX_STEPS = 3000
MAX_EPOCHS = 60
FEWEST_STEPS, FEW_EPOCHS = 300, 300
"""Of few images a training has so many steps at least, in up to so many epochs. On 20 images of BCCD a ResNet-18 of
width 16 had AP 42.9, 46.4 and 43.3 (x100) with 300, 900 and 2,000 steps (batches of 4, 224 px, one seed)."""
FEW_IMAGES = 400
"""Training images below which a GPU gets batches of 8: 16 would make fewer than 25 steps an epoch."""
MAX_DETECTIONS = 100
"""COCO's metric counts as many detections of an image and class."""


def choose_batch_size(facts: DataFacts, kind: Kind) -> Chosen[int]:
    """Return the images of a step.

    A CPU gets 4: they gained 1.3 to 5 points of AP over batches of 8 and 16 in as many epochs, on two data sets, with
    small networks (benchmarks/README.md, "What is each part of the training recipe worth?"). A GPU gets 16, the
    default, as small batches cost time there; 8 for few images, as in ``studies/bccd``.
    """
    if kind == "cpu":
        return Chosen(4, "measured on a CPU: better than 8 and 16 in as many epochs")
    if facts.num_train < FEW_IMAGES:
        return Chosen(8, f"a GPU wants more, but 16 leave few steps an epoch with {facts.num_train:,} images")
    return Chosen(16, "a GPU wants large batches")


def choose_rate(kind: Kind) -> Chosen[float]:
    """Return the learning rate per 16 images.

    With batches of 4, 6e-3 was the best of two rates on the embedded data, 10 points ahead of 12e-3, and 1 point behind
    12e-3 on BCCD (benchmarks/README.md): the safe one of both. A GPU gets the default.
    """
    if kind == "cpu":
        return Chosen(6e-3, "per 16 images; measured with batches of 4: best or within 1 point of it on two data sets")
    return Chosen(2e-3, "per 16 images; as in the measured studies on a GPU")


def choose_epochs(facts: DataFacts, asked: Asked, batch_size: int, longer: float = 1.0) -> Chosen[int]:
    """Return the epochs of a training: as many as make the steps that the hours allow.

    There are 1 to ``MAX_EPOCHS``, or more where images are few (:data:`FEWEST_STEPS`); and at least ``LEAST_EPOCHS``,
    unless that would be many steps. The measured studies take 400 to 1,200 steps. ``longer`` is a factor for hours
    that larger images cannot use, or that are few.
    """
    an_epoch = math.ceil(facts.num_train / batch_size)
    steps = max(STEPS_AT * (asked.hours / STEPS_HOURS) ** STEPS_POWER, min(ENOUGH_STEPS, LEAST_EPOCHS * an_epoch))
    most = max(MAX_EPOCHS, min(FEW_EPOCHS, math.ceil(FEWEST_STEPS / an_epoch)))
    epochs = int(np.clip(round(min(MAX_STEPS, longer * steps) / an_epoch), 1, most))
    because = f"{facts.num_train:,} images in batches of {batch_size}: {epochs * an_epoch:,} steps"
    return Chosen(epochs, because)


def choose_test_proposals(facts: DataFacts, kind: Kind) -> Chosen[int]:
    """Return the proposals of an image in detection: 4 for each object of the fullest images, 100 or 300 at least.

    The measured studies have 100 on a CPU and 300 on a GPU, with up to 32 objects in an image; the paper has 1,000.
    """
    full = float(np.percentile(facts.objects, 99))
    proposals = int(np.clip(_up(4 * full, 50), 100 if kind == "cpu" else 300, 1000))
    return Chosen(proposals, f"99 of 100 images have at most {full:.0f} objects; {_WANTS[kind]}")


def choose_train_proposals(facts: DataFacts, kind: Kind) -> Chosen[int]:
    """Return the proposals of an image in training: twice those in detection; on a GPU 500 at least."""
    proposals = 2 * choose_test_proposals(facts, kind).value
    return Chosen(min(2000, max(proposals, 0 if kind == "cpu" else 500)), "about twice as many in training")


def choose_guided_proposals(facts: DataFacts, kind: Kind) -> Chosen[int]:
    """Return the proposals of Guided Anchoring: half of the others, as in the measured studies, and 100 at least."""
    proposals = max(100, choose_test_proposals(facts, kind).value // 2)
    return Chosen(proposals, "those of Guided Anchoring are better, so fewer are enough")


def choose_rpn_samples(facts: DataFacts, kind: Kind) -> Chosen[int]:
    """Return the anchors of an image in the RPN's losses: 4 for each object of an image in the mean.

    At least 64 on a CPU and 128 on a GPU, as in the measured studies, and at most 256, the paper's.
    """
    mean = float(facts.objects.mean())
    samples = int(np.clip(_up(4 * mean, 16), 64 if kind == "cpu" else 128, 256))
    return Chosen(samples, f"an image has {mean:.1f} objects in the mean; at most half of the anchors are positive")


def choose_roi_samples(facts: DataFacts, kind: Kind) -> Chosen[int]:
    """Return the RoIs of an image in the head's losses: 2 or 8 for each object of an image in the mean.

    At least 32 on a CPU and 128 on a GPU, as in the measured studies; at most 128 and 384. A CPU spends a third of a
    training step on RoIs.
    """
    mean = float(facts.objects.mean())
    least, most, each = (32, 128, 2) if kind == "cpu" else (128, 384, 8)
    samples = int(np.clip(_up(each * mean, 16), least, most))
    return Chosen(samples, f"at most a quarter of them positive; {_WANTS[kind]}")


def choose_max_detections(facts: DataFacts) -> Chosen[int]:
    """Return the detections that an image keeps: 100, or a quarter more than the fullest image has objects."""
    most = int(facts.objects.max())
    detections = MAX_DETECTIONS if most <= MAX_DETECTIONS else _up(1.25 * most, 50)
    return Chosen(detections, f"the fullest image has {most} objects")


_WANTS: dict[Kind, str] = {"cpu": "a CPU wants few", "cuda": "a GPU hardly notices"}


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
