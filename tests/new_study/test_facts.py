from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, ImageRecord, Splits
from smnas_optuna.data.annotations import Annotations
from smnas_optuna.new_study.facts import facts_of

from .made_facts import make_device, make_facts


def dataset(*images: ImageRecord) -> CocoDataset:
    return CocoDataset(
        source=Path("x.json"),
        images=images,
        category_ids=(1,),
        category_names=("thing",),
        annotations=Annotations.of(()),
        notes=(),
    )


def image(number: int, width: int, height: int, boxes: list[list[float]], crowd: list[bool]) -> ImageRecord:
    return ImageRecord(
        image_id=number,
        path=Path(f"{number}.png"),
        height=height,
        width=width,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.ones(len(boxes), np.int64),
        crowd=np.array(crowd, np.bool_),
    )


def test_facts_are_of_objects_and_of_upright_and_lying_images_alike() -> None:
    train = dataset(
        image(1, 200, 100, [[0, 0, 10, 40], [50, 50, 90, 60]], [False, True]),
        image(2, 100, 400, [[0, 0, 20, 20], [0, 0, 8, 2]], [False, False]),
    )
    val = dataset(image(3, 100, 100, [], []))
    splits = Splits(train=train, val=val, content_hash="")

    facts = facts_of(splits, DataSettings(), title="COCO", why="")

    assert facts.images.tolist() == [[200, 100], [400, 100]]
    assert facts.boxes.tolist() == [[10, 40], [20, 20], [8, 2]]
    assert facts.image_of_box.tolist() == [0, 1, 1]
    assert facts.objects.tolist() == [1, 2, 0]
    assert (facts.num_train, facts.num_val, facts.num_test, facts.num_classes) == (2, 1, 0, 1)
    assert facts.aspect == 3.0  # the median of 2 and 4
    assert facts.boxes_at(100, 50).tolist() == [[5, 20], [5, 5], [2, 0.5]]
    assert facts.edge_at(100, 100, 50) == pytest.approx(10)
    assert facts.edge_at(0, 100, 50) == pytest.approx(1)  # 2 by 0.5
    assert facts.size_in_words == "images are 300x100 in the median, with long edges of 200 to 400 px"


def test_images_of_one_size_are_said_to_be() -> None:
    assert make_facts(size=(480, 640)).size_in_words == "all images are 640x480"


def test_devices_are_in_words() -> None:
    assert make_device(workers=2).in_words == "CPU, Made Up; 2 workers of 1 thread"
    assert make_device("cuda", workers=1).in_words == "1 GPU, Made Up"


def test_rules_need_no_torch() -> None:
    names = ("facts", "sizes", "detector", "cost", "scale", "values", "text")
    imports = "; ".join(f"import smnas_optuna.new_study.{name}" for name in names)
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False"]
