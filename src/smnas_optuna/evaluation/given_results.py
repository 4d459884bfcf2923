"""Detections that somebody else's detector made in the images of a study, and the metrics of ``smnas evaluate``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from smnas_optuna.config import load_settings
from smnas_optuna.data import CocoDataset
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.splits import TEST_IMAGES_FIX
from smnas_optuna.engine.evaluate import MAX_DETECTIONS, CocoMetrics, coco_evaluation
from smnas_optuna.errors import DataError, StudyError
from smnas_optuna.evaluation.kept import Rows
from smnas_optuna.evaluation.metrics import limits_of, metrics_of
from smnas_optuna.evaluation.request import TEST, VAL
from smnas_optuna.quote import quote, quote_error, quote_path
from smnas_optuna.session.prepare import load_data, other_data
from smnas_optuna.session.testbed import data_fingerprint
from smnas_optuna.study.fingerprint import refuse_differences
from smnas_optuna.study.folder import StudyFolder

Role = Literal["val", "test"]
FORM = "write COCO's result format: [{image_id, category_id, bbox: [x, y, width, height], score}, ...]"
NAMED = "file_name"
"""Key of a detection that names its image, as Ultralytics writes it; ``image_id`` may be a name, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenResults:
    """Detections from a file, in numbers.

    Attributes:
        role: Images that they are in.
        images: Number of these images, also of those without a detection.
        content: Hash of these images and their annotations.
        detections: Number of detections.
        metric_limit: Detections of an image and category that count; 100 unless an image has more objects.
        metrics: COCO's metrics, with an interval of AP unless there are very many images.
    """

    role: Role
    images: int
    content: str
    detections: int
    metric_limit: int
    metrics: CocoMetrics


def evaluate_results(
    file: Path, study_dir: Path, data_dir: Path | None, role: Role, step: Callable[[int, int], None]
) -> GivenResults:
    """Return the metrics of the detections in ``file``, a JSON file in COCO's result format.

    Args:
        file: The detections, in pixels of the original images; ids are those of the annotation file. An image may be
            named by its file instead, as ``file_name`` or as text in ``image_id``.
        study_dir: The study.
        data_dir: Its data folder; by default that of the last search, or ``study_dir/data``.
        role: Images that they are in.
        step: Called while the data is read; may raise to stop.

    Raises:
        DataError: If the file cannot be read, has another form, or belongs to other images or categories.
        StudyError: If the data is not that of the search, or has no test images.
    """
    rows, folder = read_results_file(file), StudyFolder(study_dir)
    root, splits = load_data(folder, data_dir, load_settings(study_dir), step)
    refuse_differences(
        other_data(folder, data_fingerprint(splits)),
        f"{root}: the study {study_dir} was made with other",
        fix="name the data of the search: --data DIR",
    )
    dataset, content = (splits.test, splits.test_hash) if role == TEST else (splits.val, splits.content_hash)
    if dataset is None or content is None:
        raise StudyError(f"--on {TEST}: the study has no test images", fix=TEST_IMAGES_FIX)
    rows = _by_number(file, rows, dataset, role)
    _check_ids(file, rows, dataset, role)
    most_objects = max(int((~image.crowd).sum()) for image in dataset.images)
    limit = limits_of(most_objects, MAX_DETECTIONS, fixed=True).metric
    evaluation = coco_evaluation(dataset.ground_truth(), rows, max_detections=limit)
    return GivenResults(
        role=role,
        images=len(dataset.images),
        content=content,
        detections=len(rows),
        metric_limit=limit,
        metrics=metrics_of(evaluation),
    )


def read_results_file(file: Path) -> Rows:
    """Return the detections in ``file``; of each the values alone that COCO's metrics need, and a name of its image.

    Raises:
        DataError: If it cannot be read, or has another form.
    """
    where = quote_path(file)
    try:
        content = read_json(file)
    except (OSError, ValueError, MemoryError) as error:
        raise DataError(f"{where}: the detections cannot be read: {quote_error(error)}", fix=FORM) from error
    if not isinstance(content, list):
        raise DataError(f"{where}: holds no list of detections, but {quote(content)}", fix=FORM)
    wrong = [(number, row) for number, row in enumerate(content) if not _is_detection(row)]
    if wrong:
        number, row = wrong[0]
        raise DataError(
            f"{where}: {len(wrong):,} of {len(content):,} entries are no detections",
            first=f"entry {number:,}: {quote(row)}",
            fix=FORM,
        )
    kept = ("image_id", "category_id", "bbox", "score", NAMED)
    return [{name: row[name] for name in kept if name in row} for row in content]


def _by_number(file: Path, rows: Rows, dataset: CocoDataset, role: Role) -> Rows:
    """Return ``rows`` with the id of each image in the place of its name, which may lack folders and ending.

    Raises:
        DataError: If a name is that of no image of ``dataset``, or of several.
    """
    ids: dict[str, set[int]] = {}
    for image in dataset.images:
        for spelling in (image.path.name, image.path.stem):
            ids.setdefault(spelling, set()).add(image.image_id)
    numbered, strangers, doubtful = list[dict[str, Any]](), list[str](), list[str]()
    for row in rows:
        name = row.get(NAMED, row["image_id"])
        values = {key: value for key, value in row.items() if key != NAMED}
        if isinstance(name, str):
            known = ids.get(PurePath(name).name) or ids.get(PurePath(name).stem, set())
            if len(known) != 1:
                (doubtful if known else strangers).append(name)
                continue
            (values["image_id"],) = known
        numbered.append(values)
    for names, what, fix in (
        (strangers, f"in other images than those of {dataset.source}", _other_images(role)),
        (doubtful, f"in images whose name several of {dataset.source} have", f"leave {NAMED} out, and write image_id"),
    ):
        if names:
            raise DataError(
                f"{quote_path(file)}: {len(names):,} of {len(rows):,} detections are {what}",
                first=f"an image called {quote(names[0])}",
                fix=fix,
            )
    return numbered


def _other_images(role: Role) -> str:
    return f"detect in these images, or name those of the file: --on {VAL if role == TEST else TEST}"


def _check_ids(file: Path, rows: Rows, dataset: CocoDataset, role: Role) -> None:
    checks = (
        (
            "image_id",
            f"in other images than those of {dataset.source}",
            {image.image_id for image in dataset.images},
            _other_images(role),
        ),
        (
            "category_id",
            f"of other categories than those of {dataset.source}",
            {*dataset.category_ids},
            "write the category ids of that file",
        ),
    )
    for name, what, known, fix in checks:
        others = [row[name] for row in rows if row[name] not in known]
        if others:
            raise DataError(
                f"{quote_path(file)}: {len(others):,} of {len(rows):,} detections are {what}",
                first=f"{name} {others[0]}",
                fix=fix,
            )


def _is_detection(row: Any) -> bool:
    if not isinstance(row, Mapping):
        return False
    box = row.get("bbox")
    return (
        (_is_id(row.get("image_id")) or isinstance(row.get("image_id"), str))
        and _is_id(row.get("category_id"))
        and isinstance(row.get(NAMED, ""), str)
        and _is_number(row.get("score"))
        and isinstance(box, list)
        and len(box) == 4
        and all(map(_is_number, box))
        and min(box[2:]) >= 0
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 and math.isfinite(value)
