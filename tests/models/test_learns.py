"""Every allowed combination of stages, RPN, head and neck learns eight drawn images by heart, from scratch.

One of two stages is in the slow tier, the others are in the nightly one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch
from smnas_optuna.config import TrainSettings
from smnas_optuna.data import CocoDataset, DetectionLoader, load_coco
from smnas_optuna.data.scenes import CLASSES, annotate, draw_scene
from smnas_optuna.engine.evaluate import coco_metrics, detect
from smnas_optuna.engine.train import train
from smnas_optuna.models import build_detector

EDGE = 96
STEPS = 200
SMALLEST = 20
"""Pixels of an object's shorter edge."""
CONSTANTS = DetectorConstants(
    anchor_scale=4,
    train_proposals=100,
    test_proposals=50,
    guided_proposals=50,
    rpn_samples=64,
    roi_samples=16,
    guided_roi_samples=8,
    score_threshold=0.05,
)
FPN = "fpn-p3-p5-c32"
COMBINATIONS = {
    "one-stage, FPN": f"{FPN}.none.retina",
    **{
        f"{rpn}, {head}, {neck}": f"{module}.{rpn}.{head}{width}"
        for neck, module, width in (("FPN", FPN, "-w64"), ("C4", "c4", ""))
        for rpn in ("rpn", "ga")
        for head in ("fc", "cascade3")
    },
}
QUICK = ("rpn, fc, FPN",)
"""What CI tries; all others learn before a release."""
CASES = [
    pytest.param(modules, id=name, marks=pytest.mark.slow if name in QUICK else pytest.mark.nightly)
    for name, modules in COMBINATIONS.items()
]
RATES = {"c4.ga.fc": (3e-3, 2e-3, 1.5e-3), "c4.ga.cascade3": (2e-3, 1.5e-3, 3e-3)}
"""Without a pyramid, Guided Anchoring is touchy about the rate, and which one it takes differs between machines."""


class _OneBatch:
    """The same batch in every epoch, as a trainer and an evaluator see it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        yield from (replace(self.batch, seeds=torch.arange(len(self.batch)) + 1000 * index),)[start:]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[CocoDataset, _OneBatch]:
    dataset = draw_images(tmp_path_factory.mktemp("drawn"))
    cpu = torch.device("cpu")
    loader = DetectionLoader(dataset, long=EDGE, short=EDGE, batch_size=8, device=cpu, seed=0, train=False)
    (batch,) = loader.epoch(0)
    return dataset, _OneBatch(batch)


def draw_images(folder: Path) -> CocoDataset:
    """Eight scenes of one or two objects that are larger than a stride of C4's only level."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    scenes = (draw_scene(np.random.default_rng(seed), EDGE, EDGE, max_objects=2) for seed in itertools.count())
    large = (scene for scene in scenes if all(min(each["bbox"][2:]) >= SMALLEST for each in annotate(scene)))
    for number, scene in enumerate(itertools.islice(large, 8), start=1):
        Image.fromarray(scene.pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": EDGE, "height": EDGE})
        for each in annotate(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **each})
    categories = [{"id": number, "name": name} for number, (name, _) in CLASSES.items()]
    file = folder / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return load_coco(file, folder)


@pytest.mark.parametrize("modules", CASES)
def test_it_learns_eight_images_by_heart(modules: str, drawn: tuple[CocoDataset, _OneBatch]) -> None:
    dataset, batches = drawn
    spec = decode(f"{EDGE}x{EDGE}.resnet18-w8.{modules}")
    best = 0.0
    for rate in RATES.get(modules, (3e-3,)):
        torch.manual_seed(0)
        detector = build_detector(spec, dataset.num_classes, CONSTANTS)

        train(detector, batches, TrainSettings(epochs=STEPS, batch_size=8, learning_rate=rate, weight_decay=0.0))

        metrics = coco_metrics(dataset.ground_truth(), detect(detector, batches, dataset.category_ids))
        best = max(best, metrics.ap50)
        if best > 0.9:
            break
    assert best > 0.9
