from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from smnas_optuna.prediction.results import results_json, results_of

from .detections import detections


def test_entries_are_those_of_a_results_file_of_coco() -> None:
    found = detections(((10.0, 20.5, 30.25, 40.0), 2, 0.987654321), ((0.0, 0.0, 1.0, 1.0), 1, 0.25))

    results = results_of(found, image_id=7, file=Path("in/a.png"), category_ids=[4, 9])

    assert results == [
        {
            "image_id": 7,
            "file_name": "in/a.png",
            "category_id": 9,
            "category_name": "dog",
            "bbox": [10.0, 20.5, 20.25, 19.5],
            "score": 0.98765,
        },
        {
            "image_id": 7,
            "file_name": "in/a.png",
            "category_id": 4,
            "category_name": "cat",
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "score": 0.25,
        },
    ]
    text = results_json(results)
    assert json.loads(text) == results
    assert len(text.splitlines()) == 4


def test_no_object_is_an_empty_list() -> None:
    assert json.loads(results_json(results_of(detections(), image_id=1, file=Path("a"), category_ids=[]))) == []


@pytest.mark.parametrize("name", ["Straße.png", "猫.png", "a\nb.png", os.fsdecode(b"\xff.png")])
def test_any_name_of_a_file_can_be_written(name: str) -> None:
    found = detections(((0.0, 0.0, 1.0, 1.0), 1, 0.5), names=["猫"])

    results = results_of(found, image_id=1, file=Path(name), category_ids=[1])

    assert json.loads(results_json(results).encode()) == results
    assert results[0]["category_name"] == "猫"
