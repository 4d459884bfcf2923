"""Data sets and detections in COCO's format, without image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smnas_optuna.arch import InputSize
from smnas_optuna.data import CocoDataset, ImageRecord
from smnas_optuna.data.annotations import Annotations
from smnas_optuna.evaluation.images import Images
from smnas_optuna.evaluation.metrics import limits_of
from smnas_optuna.evaluation.request import EvaluationRequest
from smnas_optuna.evaluation.run import Evaluated, evaluate_detections
from smnas_optuna.evaluation.subject import Subject
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import StopRequest

from ..runtime.exported_files import DESCRIPTION

Rows = list[dict[str, Any]]


def dataset(
    boxes: Sequence[tuple[int, int, tuple[float, ...]]],
    *,
    images: int = 1,
    classes: int = 2,
    size: tuple[int, int] = (100, 200),
    crowd: Sequence[int] = (),
) -> CocoDataset:
    """Images 1, 2, ... of ``size`` (height, width) with boxes (image, class from 0, (x, y, width, height)).

    Class ``c`` is the category ``10 * (c + 1)``. The boxes with the numbers in ``crowd``, from 0, are crowd regions.
    """
    annotations: Rows = [
        {
            "id": number,
            "image_id": image,
            "category_id": 10 * (label + 1),
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": int(number in crowd),
        }
        for number, (image, label, box) in enumerate(boxes)
    ]
    records = []
    for image in range(1, images + 1):
        own = [(number, label, box) for number, (at, label, box) in enumerate(boxes) if at == image]
        corners = [(x, y, x + width, y + height) for _, _, (x, y, width, height) in own]
        records.append(
            ImageRecord(
                image_id=image,
                path=Path(f"{image}.png"),
                height=size[0],
                width=size[1],
                boxes=np.array(corners, np.float32).reshape(-1, 4),
                labels=np.array([label + 1 for _, label, _ in own], np.int64),
                crowd=np.array([number in crowd for number, _, _ in own], np.bool_),
            )
        )
    return CocoDataset(
        source=Path("drawn.json"),
        images=tuple(records),
        category_ids=tuple(10 * (label + 1) for label in range(classes)),
        category_names=tuple("abcdefgh"[:classes]),
        annotations=Annotations.of(annotations),
        notes=(),
    )


def detection(image: int, label: int, box: tuple[float, ...], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": 10 * (label + 1), "bbox": list(box), "score": score}


def drawn(seed: int, *, images: int = 12, classes: int = 3, most: int = 9) -> tuple[CocoDataset, Rows]:
    """Random objects, some of them crowd regions, and detections: near them, of other classes, and anywhere."""
    random = np.random.default_rng(seed)
    boxes: list[tuple[int, int, tuple[float, ...]]] = []
    found: Rows = []
    crowd: list[int] = []
    for image in range(1, images + 1):
        for _ in range(random.integers(0, most)):
            box = tuple(float(each) for each in (*random.uniform(0, 100, 2), *random.uniform(4, 60, 2)))
            label = int(random.integers(classes))
            if random.uniform() < 0.1:
                crowd.append(len(boxes))
            boxes.append((image, label, box))
            for _ in range(random.integers(0, 3)):
                near = tuple(float(each) for each in np.array(box) + random.normal(0, 3, 4).clip(-3, 3))
                said = label if random.uniform() < 0.8 else int(random.integers(classes))
                found.append(detection(image, said, near, float(random.uniform())))
        for _ in range(random.integers(0, 4)):
            box = tuple(float(each) for each in (*random.uniform(0, 100, 2), *random.uniform(10, 60, 2)))
            found.append(detection(image, int(random.integers(classes)), box, float(random.uniform())))
    return dataset(boxes, images=images, classes=classes, crowd=crowd), found


def evaluated(
    data: CocoDataset,
    found: Rows,
    *,
    thresholds: dict[str, float] | None = None,
    output: Path = Path("study/evaluation/a.onnx.val"),
    long: int = 64,
    short: int = 48,
    max_detections: int = 100,
) -> Evaluated:
    """What an exported file has found, with the thresholds that it carries; without them those of validation images."""
    description = replace(
        DESCRIPTION,
        classes=data.category_names,
        long=long,
        short=short,
        constants={"max_detections": max_detections},
        thresholds=thresholds or {},
    )
    subject = Subject(
        path=Path("a.onnx"),
        arch=description.arch,
        classes=description.classes,
        size=InputSize(long=long, short=short),
        grey_bits=16,
        sha256="f00",
        constants=description.constants,
        thresholds=description.thresholds,
        source=DetectorFile(name="a.onnx", content=b"", description=description),
    )
    images = Images(dataset=data, content_hash="abc", category_ids=data.category_ids)
    return evaluate_detections(
        EvaluationRequest(study_dir=Path("study"), detector=subject.path, on="val" if thresholds is None else "test"),
        subject,
        images,
        output,
        limits_of(images.most_objects, subject.max_detections, fixed=True),
        found,
        kept=False,
        listener=Listener(),
        stop=StopRequest(),
    )


def with_images(data: CocoDataset, folder: Path) -> CocoDataset:
    """The same data set, with files of noise as its images."""
    records = []
    for image in data.images:
        path = folder / image.path.name
        noise = np.random.default_rng(image.image_id).integers(0, 256, (image.height, image.width, 3), np.uint8)
        Image.fromarray(noise).save(path)
        records.append(replace(image, path=path))
    return replace(data, images=tuple(records))
