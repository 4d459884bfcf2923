"""The yardstick from outside: data written for another program, and its detections read back."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.config import ShapesSettings
from smnas_optuna.data import CocoDataset, load_coco
from smnas_optuna.data.formats import load_one_split
from smnas_optuna.data.shapes import make_shapes

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules
import outsider_yolo
import yolo_command


@pytest.fixture
def drawn(tmp_path: Path) -> CocoDataset:
    make_shapes(tmp_path / "data", ShapesSettings(train_images=1, val_images=6, width=96, height=64))
    return load_coco(tmp_path / "data" / "instances_val.json", tmp_path / "data" / "images")


def test_the_data_as_written_are_the_same_data(drawn: CocoDataset, tmp_path: Path) -> None:
    yolo_command.write_yolo_data(tmp_path / "yolo", {"train": drawn, "val": drawn})
    read, _, _ = load_one_split(tmp_path / "yolo", ("val",))

    assert read.category_names == drawn.category_names
    assert [image.path.stem for image in read.images] == sorted(str(image.image_id) for image in drawn.images)
    own = {str(image.image_id): image for image in drawn.images}
    for image in read.images:
        assert image.boxes == pytest.approx(own[image.path.stem].boxes, abs=1e-3)
        assert image.labels.tolist() == own[image.path.stem].labels.tolist()


def test_a_crowd_region_is_no_object_of_theirs(drawn: CocoDataset, tmp_path: Path) -> None:
    image = drawn.images[0]
    crowd = image.crowd.copy()
    crowd[-1] = True
    yolo_command.write_yolo_data(
        tmp_path, {"train": replace(drawn, images=(replace(image, crowd=crowd),)), "val": drawn}
    )

    lines = (tmp_path / "labels" / "train" / f"{image.image_id}.txt").read_text().splitlines()
    assert len(lines) == len(image.boxes) - 1


def test_detections_come_back_in_pixels_with_the_ids_of_the_annotation_file(drawn: CocoDataset, tmp_path: Path) -> None:
    yolo_command.write_yolo_data(tmp_path, {"train": drawn, "val": drawn})
    found = tmp_path / "found"
    found.mkdir()
    for file in (tmp_path / "labels" / "val").iterdir():
        (found / file.name).write_text("".join(f"{line} 0.25\n" for line in file.read_text().splitlines()))
    (found / f"{drawn.images[0].image_id}.txt").unlink()

    rows = yolo_command.coco_results(found, drawn)

    others = [row for row in drawn.ground_truth()["annotations"] if row["image_id"] != drawn.images[0].image_id]
    assert [(row["image_id"], row["category_id"], row["score"]) for row in rows] == [
        (row["image_id"], row["category_id"], 0.25) for row in others
    ]
    assert [row["bbox"] for row in rows] == [pytest.approx(row["bbox"], abs=1e-3) for row in others]


def test_a_command_that_fails_names_its_log(tmp_path: Path) -> None:
    command = tmp_path / "yolo"
    command.write_text("#!/bin/sh\necho no such model\nexit 3\n")
    command.chmod(0o755)
    outsider = yolo_command.Outsider(yolo=command, work=tmp_path, model="x", size=64, input=(64, 64))

    with pytest.raises(SystemExit, match=r"error: yolo train model=x .* failed\n  fix: .*log.txt has the reason"):
        outsider.train("t", 1, 0)
    assert (tmp_path / "log.txt").read_text().endswith("no such model\n")


def test_the_table_has_seconds_without_the_start_and_the_spread() -> None:
    found = {
        "about": {"arch": "64x48.small", "model": "tiny.yaml", "input": "64x64"},
        "epoch": {"seconds": 5.0, "start": 7.0},
        "ours": {"0": {"seconds": 75.0, "epochs": 12, "val": 0.5, "test": 0.25}},
        "theirs": {
            "3": {
                "0": {"whole_seconds": 80.0, "epochs": 15, "val": 0.2, "test": 0.3},
                "1": {"whole_seconds": 84.0, "epochs": 15, "val": 0.2, "test": 0.4},
            },
            "9": {},
        },
        "latency": {"network": {"a": {"ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.625, "alone": False}}},
    }

    text = outsider_yolo.table(json.loads(json.dumps(found)))

    assert "| `64x48.small` | 12 | 75 | 50.0 | 25.0 | 1 |" in text
    assert "| tiny.yaml at 64x64 | 15 | 75 ± 3 | 20.0 ± 0.0 | 35.0 ± 7.1 | 2 |" in text
    assert "| network | a | 0.500 (0.400..0.625) * |" in text
