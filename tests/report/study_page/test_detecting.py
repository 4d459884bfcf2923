from __future__ import annotations

import json
from pathlib import Path

import pytest

from smnas_optuna.data import CocoDataset
from smnas_optuna.report.study_page.detecting import Patience, kept_detections
from tests.report.study_page.test_pictures import IMAGE


def _dataset() -> CocoDataset:
    from smnas_optuna.data.annotations import Annotations

    return CocoDataset(
        source=Path("val.json"),
        images=(IMAGE,),
        category_ids=(3, 9),
        category_names=("a", "b"),
        annotations=Annotations.__new__(Annotations),
        notes=(),
    )


def test_kept_detections_are_those_of_the_images_surest_first(tmp_path: Path) -> None:
    rows = [
        {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.5},
        {"image_id": 8, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.75},
    ]
    (tmp_path / "detections.json").write_text(json.dumps(rows))
    found = kept_detections(tmp_path, _dataset(), [IMAGE])

    assert found is not None
    assert list(found) == [7]
    assert found[7].labels.tolist() == [1, 2]
    assert found[7].boxes.tolist() == [[0, 0, 5, 5], [1, 2, 4, 6]]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 1}]', '[{"image_id": 7}]'],
)
def test_damaged_detections_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "detections.json").write_text(text)

    assert kept_detections(tmp_path, _dataset(), [IMAGE]) is None


def test_patience_ends_with_the_detectors_and_with_the_time() -> None:
    two, none = Patience(detectors=2), Patience(seconds=-1.0)

    assert [two.take() for _ in range(3)] == [True, True, False]
    assert not none.take()
