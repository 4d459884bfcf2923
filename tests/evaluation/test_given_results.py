"""Detections of somebody else's detector: their file, and the metrics of ``smnas evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler

from smnas_optuna.config import load_settings
from smnas_optuna.engine.evaluate import coco_metrics
from smnas_optuna.errors import DataError, StudyError
from smnas_optuna.evaluation.given_results import GivenResults, Role, evaluate_results
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import load_data, prepare
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

GOOD = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20], "score": 0.5}


def nothing(*_: int) -> None:
    pass


def evaluated(study_dir: Path, rows: object, role: Role = "val") -> GivenResults:
    file = study_dir / "results.json"
    file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return evaluate_results(file, study_dir, None, role, nothing)


def truth(study_dir: Path) -> dict[str, Any]:
    _, splits = load_data(StudyFolder(study_dir), None, load_settings(study_dir), nothing)
    return splits.val.ground_truth()


def test_the_metrics_are_those_of_the_images_for_validation(drawn_dir: Path) -> None:
    document = truth(drawn_dir)
    rows = [
        {**{name: row[name] for name in ("image_id", "category_id", "bbox")}, "score": 0.9, "segmentation": []}
        for row in document["annotations"][::2]
    ]

    found = evaluated(drawn_dir, rows)

    assert 0 < found.metrics.ap < 1
    assert found.metrics == coco_metrics(document, rows)
    assert (found.role, found.images, found.detections, found.metric_limit) == ("val", 12, len(rows), 100)


def test_all_objects_in_their_places_are_an_ap_of_1_and_no_detection_is_one_of_0(drawn_dir: Path) -> None:
    rows = [{**row, "score": 1.0} for row in truth(drawn_dir)["annotations"]]

    assert evaluated(drawn_dir, rows).metrics.ap == pytest.approx(1)
    assert evaluated(drawn_dir, []).metrics.ap == 0


@pytest.mark.parametrize("form", ["as Ultralytics", "without ending", "with another ending", "with folders"])
def test_an_image_may_be_named_by_its_file(drawn_dir: Path, form: str) -> None:
    document = truth(drawn_dir)
    names = {image["id"]: image["file_name"] for image in document["images"]}
    rows = [{**row, "score": 1.0} for row in document["annotations"]]
    for number, row in enumerate(rows):
        name = names[row["image_id"]]
        if form == "as Ultralytics":  # a number that it takes from a name of digits, which is no id
            row |= {"image_id": 1 if number % 2 else Path(name).stem, "file_name": name}
        else:
            others = {"without ending": Path(name).stem, "with another ending": str(Path(name).with_suffix(".JPG"))}
            row["image_id"] = others.get(form, f"images/val/{name}")

    assert evaluated(drawn_dir, rows).metrics.ap == pytest.approx(1)


def test_a_name_that_several_images_have_is_refused(drawn_dir: Path) -> None:
    file = drawn_dir / "data" / "instances_val.json"
    document = json.loads(file.read_text())
    first, second = document["images"][:2]
    moved = drawn_dir / "data" / "images" / "other" / first["file_name"]
    moved.parent.mkdir()
    (drawn_dir / "data" / "images" / second["file_name"]).rename(moved)
    second["file_name"] = f"other/{first['file_name']}"
    file.write_text(json.dumps(document))

    with pytest.raises(DataError, match=r"in images whose name several of .* have\n  first: an image called 'val_"):
        evaluated(drawn_dir, [{**GOOD, "file_name": first["file_name"]}])


@pytest.mark.parametrize(
    ("rows", "message", "first"),
    [
        ("{", "the detections cannot be read: ", None),
        ({"annotations": []}, "holds no list of detections, but {'annotations': []}", None),
        ([GOOD, {"image_id": 1}], "1 of 2 entries are no detections", "entry 1: {'image_id': 1}"),
        ([{**GOOD, "image_id": None}], "1 of 1 entries are no detections", "entry 0: "),
        ([{**GOOD, "file_name": 1}], "1 of 1 entries are no detections", "entry 0: "),
        ([{**GOOD, "image_id": "no such"}], "1 of 1 detections are in other images", "an image called 'no such'"),
        ([GOOD, {**GOOD, "file_name": "x.png"}], "1 of 2 detections are in other images", "an image called 'x.png'"),
        ([{**GOOD, "bbox": [1, 2, 10]}], "1 of 1 entries are no detections", "entry 0: "),
        ([{**GOOD, "bbox": [1, 2, -1, 5]}], "1 of 1 entries are no detections", "entry 0: "),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": NaN}]', "1 of 1 entries", "entry 0: "),
        ([GOOD, {**GOOD, "image_id": 999}], "1 of 2 detections are in other images than ", "image_id 999"),
        ([{**GOOD, "category_id": 0}], "1 of 1 detections are of other categories than ", "category_id 0"),
    ],
    ids=[
        "no JSON",
        "no list",
        "missing",
        "no id",
        "no name",
        "other name",
        "other file",
        "short box",
        "negative",
        "NaN",
        "other image",
        "other category",
    ],
)
def test_what_is_no_result_in_these_images_is_refused(
    drawn_dir: Path, rows: object, message: str, first: str | None
) -> None:
    with pytest.raises(DataError) as refusal:
        evaluated(drawn_dir, rows)

    assert refusal.value.message.startswith(f"{drawn_dir / 'results.json'}: ")
    assert message in refusal.value.message
    assert (refusal.value.first or "").startswith(first or "")
    assert refusal.value.fix


def test_results_in_other_data_than_that_of_the_search_are_refused(drawn_dir: Path) -> None:
    session = prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu")
    study = session.folder.create("structural", RandomSampler())
    study.set_user_attr(FINGERPRINT, session.depends_on)
    assert evaluated(drawn_dir, []).metrics.ap == 0
    study.set_user_attr(FINGERPRINT, {**session.depends_on, "data": {**session.depends_on["data"], "content": "f00"}})

    with pytest.raises(StudyError, match="was made with other data"):
        evaluated(drawn_dir, [])


def test_results_of_test_images_need_some(drawn_dir: Path) -> None:
    with pytest.raises(StudyError, match=r"the study has no test images\n  fix: name their annotation file"):
        evaluated(drawn_dir, [], role="test")
