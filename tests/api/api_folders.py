"""Study folders and run folders that take milliseconds: trials and weights that nobody trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study

from smnas_optuna.engine.checkpoint import save_weights

from ..models.tiny_detectors import NUM_CLASSES, build, spread_predictions

CLASSES = ["cat", "dog", "bird"]


def keep_studies(folder: Path, studies: Sequence[Study]) -> Path:
    """``folder`` with ``studies`` in its database."""
    folder.mkdir(exist_ok=True)
    for study in studies:
        optuna.copy_study(
            from_study_name=study.study_name, from_storage=study._storage, to_storage=f"sqlite:///{folder}/study.db"
        )
    return folder


def description_of(arch: str) -> dict[str, Any]:
    """The keys that a search of commit 3dbf8fb wrote."""
    return {
        "arch": arch,
        "classes": CLASSES,
        "category_ids": [1, 3, 7],
        "constants": {
            "anchor_scale": 4.0,
            "train_proposals": 50,
            "test_proposals": 40,
            "guided_proposals": 40,
            "rpn_samples": 32,
            "roi_samples": 32,
            "guided_roi_samples": 24,
            "score_threshold": 0.0,
            "nms_iou": 0.5,
            "max_detections": 20,
            "norm": "gn",
        },
        "latency_ms": 5.406003151892519,
        "device": {"kind": "cpu", "model": "AMD EPYC", "threads": 1},
        "versions": {"python": "3.11.7", "torch": "2.14.1+cu130", "torchvision": "0.29.1+cu130", "cuda": "13.0"},
        "metrics": {"ap": 0.002866879908959117, "ap50": 0.00724044207955099, "ap75": 0.0, "ap_medium": None},
        "latency": {"ratio": 0.28, "median_ms": 5.9, "reference": arch, "runtime": "eager"},
        "skipped_steps": 0,
    }


def keep_detector(folder: Path, arch: str) -> Path:
    """``folder`` with a detector whose weights are random, and whose scores and boxes differ."""
    assert len(CLASSES) == NUM_CLASSES
    detector = build(arch)
    spread_predictions(detector)
    save_weights(folder, detector, description_of(arch))
    return folder
