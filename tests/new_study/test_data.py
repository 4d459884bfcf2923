from __future__ import annotations

import json
from pathlib import Path

import pytest

from smnas_optuna.errors import DataError
from smnas_optuna.new_study.data import find_data, look_at_data
from tests.data.formats.writers import CLASSES, WRITERS, write_coco_files


@pytest.mark.parametrize("format", ["coco", *WRITERS])
def test_facts_are_the_same_in_every_format(format: str, tmp_path: Path) -> None:
    name, write = {**WRITERS, "coco": ("coco", write_coco_files)}[format]
    write(tmp_path)

    facts, _ = look_at_data(tmp_path)

    assert facts.settings.format == name
    assert facts.why
    assert (facts.num_train, facts.num_val, facts.num_test, facts.num_classes) == (3, 2, 1, len(CLASSES))
    assert not facts.held_out
    assert facts.boxes.sum(axis=0) == pytest.approx([38, 36], abs=0.01)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such folder") as caught:
        find_data(tmp_path / "nowhere")

    assert caught.value.fix == "name the data folder: --data DIR"


def test_a_folder_of_nothing_is_refused_as_by_a_search(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances_train\.json: there is no such annotation file"):
        look_at_data(tmp_path)


def test_unusable_boxes_are_refused_or_dropped_when_asked(tmp_path: Path) -> None:
    write_coco_files(tmp_path)
    path = tmp_path / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(document))

    with pytest.raises(DataError) as caught:
        look_at_data(tmp_path)
    facts, notes = look_at_data(tmp_path, drop_empty_boxes=True)

    assert caught.value.fix.endswith("or give --drop-empty-boxes")
    assert facts.settings.drop_empty_boxes
    assert len(facts.boxes) == 2
    assert "train: 1 annotations with a box without area: left out" in notes


def test_data_of_one_split_hold_validation_images_out(tmp_path: Path) -> None:
    write_coco_files(tmp_path)
    for role in ("val", "test"):
        (tmp_path / f"instances_{role}.json").unlink()

    facts, _ = look_at_data(tmp_path)

    assert facts.held_out
    assert facts.num_train + facts.num_val == 3
