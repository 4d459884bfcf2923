"""Records of trainings as ``smnas train`` stores them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smnas_optuna.final_training.expectation import Expectation
from smnas_optuna.final_training.place import Place
from smnas_optuna.final_training.record import MeasuredLatency, Outcome, Plan, TrainingRecord, write_training
from smnas_optuna.study.choice import DETECTOR_FILE, WEIGHTS_FILE
from smnas_optuna.study.folder import StudyFolder

ARCH = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"
OTHER = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
NAMES = ("ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium")


def metrics(ap: float) -> dict[str, float | None]:
    return {"ap": ap, **dict.fromkeys(NAMES, 0.125), "ar_large": None, "ap_low": 0.25, "ap_high": 0.75}


def plan(arch: str = ARCH, *, epochs: int = 30, hours: float | None = None, with_val: bool = False) -> Plan:
    return Plan(arch=arch, epochs=epochs, hours=hours, with_val=with_val, seed=7)


def outcome(ap: float | None = 0.5, *, test_ap: float | None = None, epoch: int = 24) -> Outcome:
    latency = MeasuredLatency(
        ratio=0.5, ms=12.0, low_ms=11.5, high_ms=12.5, here_ms=10.0, reference_here_ms=20.0, runtime="onnxruntime"
    )
    return Outcome(
        epoch=epoch,
        metrics=None if ap is None else metrics(ap),
        last_metrics=None if ap is None else metrics(0.48),
        test_metrics=None if test_ap is None else metrics(test_ap),
        ap_spread=0.01,
        latency=latency,
        place=None if ap is None else Place(dominated_by=(), dominates=(OTHER,)),
        skipped_steps=0,
        seconds=123.0,
        device={"kind": "cpu", "model": "A CPU", "threads": 2},
        versions={"torch": "2.14"},
    )


def training(of: Plan | None = None, *, out: Outcome | None = None, test_images: int = 0) -> TrainingRecord:
    data = {
        "content": "0f",
        "classes": ["cat", "dog"],
        "train": {"images": 1000, "boxes": 2000},
        "val": {"images": 12, "boxes": 30},
        "test": {"content": "1e" if test_images else None, "images": test_images, "boxes": 2 * test_images},
    }
    recipe = {
        "train": {"batch_size": 8, "optimizer": "adamw", "scale_jitter": [0.8, 1.25]},
        "detector": {"max_detections": 100, "score_threshold": 0.01},
    }
    return TrainingRecord(
        plan=of or plan(),
        about={"data": data, "recipe": recipe, "device": {"kind": "cpu"}},
        expected=Expectation(ap=0.4, low=0.35, high=0.45, epochs=12, source="3 trainings of smnas verify"),
        outcome=out,
    )


def finished(study: Path, name: str, ap: float | None, *, arch: str = ARCH, with_val: bool = False) -> Path:
    """A finished training in a study folder, whose weights and description are empty files."""
    folder = StudyFolder(study).trained / name
    folder.mkdir(parents=True)
    for file in (WEIGHTS_FILE, DETECTOR_FILE):
        (folder / file).touch()
    write_training(folder, replace(training(plan(arch, with_val=with_val)), outcome=outcome(ap, test_ap=0.5)))
    return folder
