"""Facts of data and devices that nobody has."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from smnas_optuna.arch import decode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import DataSettings
from smnas_optuna.new_study.facts import DataFacts, DeviceFacts, Timed

TIMED = (
    "96x72.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "160x120.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256",
    "320x240.resnet50-w32.fpn-p2-p5-c128.rpn.fc-w512",
)


def make_facts(
    *,
    size: tuple[int, int] = (640, 480),
    edges: tuple[float, float] = (40.0, 120.0),
    num_images: int = 200,
    per_image: int = 10,
    **others: Any,
) -> DataFacts:
    """Facts of images of one size with objects whose edges are spread evenly over ``edges``, pixels."""
    random = np.random.default_rng(0)
    edge = random.uniform(*edges, num_images * per_image)
    shape = np.exp2(random.uniform(-0.5, 0.5, len(edge)))
    values: dict[str, Any] = {
        "settings": DataSettings(format="coco", val="instances_val.json"),
        "title": "COCO",
        "why": "instances_train.json and instances_val.json are there",
        "num_train": num_images,
        "num_val": num_images // 4,
        "num_test": 0,
        "held_out": False,
        "num_classes": 3,
        "images": np.array([sorted(size, reverse=True)] * num_images, np.float64),
        "boxes": np.stack([edge * shape, edge / shape], axis=1),
        "image_of_box": np.repeat(np.arange(num_images), per_image),
        "objects": np.full(num_images + num_images // 4, per_image, np.int64),
    }
    return DataFacts(**{**values, **others})


def make_device(
    kind: Literal["cpu", "cuda"] = "cpu", *, workers: int = 2, slower: float = 1.0, fixed_s: float = 0.01
) -> DeviceFacts:
    """A device that takes ``fixed_s`` and a time in proportion to the multiply-adds for an image."""
    each_s = slower * (3e-10 if kind == "cpu" else 1e-12)
    count = WorkCounter(3)
    timed = []
    for arch in TIMED:
        work = count(decode(arch)).multiply_adds
        train_s = slower * fixed_s + each_s * work
        timed.append(
            Timed(arch=arch, multiply_adds=work, train_s=train_s, detect_s=train_s / 3, latency_ms=1000 * train_s / 3)
        )
    return DeviceFacts(kind=kind, name="Made Up", workers=workers, threads=1, timed=tuple(timed))
