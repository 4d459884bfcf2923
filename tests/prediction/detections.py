"""Detections that nobody found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smnas_optuna.runtime.detections import Detections

NAMES = ("cat", "dog", "a bird with a rather long name that nobody can read at a glance")


def detections(
    *objects: tuple[tuple[float, float, float, float], int, float], names: Sequence[str] = NAMES
) -> Detections:
    """Of one image, each as (box, label, score)."""
    labels = [label for _, label, _ in objects]
    return Detections(
        boxes=np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        names=[names[label - 1] for label in labels],
        scores=np.array([score for _, _, score in objects], np.float32),
    )


def crowd(count: int, width: int, height: int, seed: int = 0) -> Detections:
    """``count`` objects of all sizes anywhere in an image, many at its edges."""
    random = np.random.default_rng(seed)
    centre, size = random.random((count, 2)), np.exp(random.normal(-2.2, 0.6, (count, 2)))
    corners = np.clip(np.concatenate([centre - size / 2, centre + size / 2], axis=1), 0, 1)
    labels = random.integers(1, len(NAMES) + 1, count)
    return Detections(
        boxes=(corners * [width, height, width, height]).astype(np.float32),
        labels=labels,
        names=[NAMES[label - 1] for label in labels],
        scores=np.sort(random.random(count).astype(np.float32))[::-1],
    )
