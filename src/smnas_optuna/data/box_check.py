"""The boxes of an annotation file -> corners inside their images, and notes on what was mended or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.box_layout import PIXEL_FIX, check_layout
from smnas_optuna.data.box_unit import OTHER_UNIT, REACHES_FAR
from smnas_optuna.data.coco_box import XYXY, Fault, clip_box
from smnas_optuna.data.rows import Row
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote

SMALLEST_ALIKE = 8
"""Pixels: boxes of at least this size in both directions that end at the same whole pixels are nearly the same."""


def check_boxes(file: AnnotationFile, source: Path, *, drop: bool) -> tuple[dict[int, XYXY], tuple[str, ...]]:
    """Return the corners of usable boxes by annotation id, clipped to the image, and notes.

    An annotation that repeats image, category, box and ``iscrowd`` of another is left out, with a note.

    Args:
        file: The file; nothing about its boxes is checked yet.
        source: Its path, for messages.
        drop: Leave out boxes that cannot be used.

    Raises:
        DataError: If a box cannot be used and ``drop`` is false, or the boxes are in another layout or unit; see
            :func:`smnas_optuna.data.box_layout.check_layout`.
    """
    notes = check_layout(file, source)
    sizes = {row["id"]: (row["height"], row["width"]) for row in file.images}
    boxes: dict[int, XYXY] = {}
    faults: Counter[Fault] = Counter()
    first = ""
    num_clipped = 0
    for row in file.annotations:
        box = clip_box(row["bbox"], *sizes[row["image_id"]])
        if isinstance(box, Fault):
            faults[box] += 1
            first = first or (f"{file.place_of(row)}, bbox {quote(row['bbox'])} (x, y, width, height in pixels)")
        else:
            boxes[row["id"]] = box.xyxy
            num_clipped += box.clipped
    if faults and not drop:
        total = len(file.annotations)
        what = ", ".join(f"{n} of {total} annotations have {fault}" for fault, n in faults.items())
        fix = "remove them from the file, or set drop_empty_boxes = true in study.toml"
        if Fault.MISSING in faults:
            write = file.box_fix or "write bbox (pycocotools' mask.toBbox gives that of a mask)"
            fix = f"{write}, or {fix}"
        elif 2 * sum(faults[each] for each in (Fault.NOT_FOUR_NUMBERS, Fault.NOT_FINITE, Fault.NO_AREA)) > total:
            fix = f"{file.box_fix or PIXEL_FIX}; or {fix}"
        elif any(REACHES_FAR in note for note in notes):
            fix = f"{OTHER_UNIT}; to leave out what lies outside, as in cut images, {fix}"
        raise DataError(f"{source}: {'; '.join((what, *notes))}", first=first, fix=fix)
    notes += tuple(f"{number} annotations with {fault}: left out" for fault, number in faults.items())
    if num_clipped:
        notes += (f"{num_clipped} boxes reach over the border of their image: clipped",)
    return boxes, (*notes, *_leave_out_repeats(file, boxes), *_note_alike(file, boxes))


def _leave_out_repeats(file: AnnotationFile, boxes: dict[int, XYXY]) -> list[str]:
    """Remove the boxes of annotations that repeat another one, and return a note on them."""
    first_of: dict[tuple[object, ...], Row] = {}
    repeats: list[tuple[Row, Row]] = []
    for row in _with_box(file.annotations, boxes):
        key = row["image_id"], row["category_id"], row["iscrowd"], boxes[row["id"]]
        other = first_of.setdefault(key, row)
        if other is not row:
            repeats.append((row, other))
    for row, _ in repeats:
        del boxes[row["id"]]
    return _note(file, repeats, "repeat image, category and box of another: left out")


def _note_alike(file: AnnotationFile, boxes: Mapping[int, XYXY]) -> list[str]:
    """Return notes on boxes that are nearly those of another object, or exactly those of another category's."""
    alike: list[tuple[Row, Row]] = []
    twofold: list[tuple[Row, Row]] = []
    first_of: dict[tuple[object, ...], Row] = {}
    first_with: dict[tuple[object, ...], Row] = {}
    for row in _with_box(file.annotations, boxes):
        xyxy = boxes[row["id"]]
        if row["iscrowd"]:
            continue
        if min(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]) >= SMALLEST_ALIKE:
            key = row["image_id"], row["category_id"], *map(round, xyxy)
            if (other := first_of.setdefault(key, row)) is not row:
                alike.append((row, other))
        if (other := first_with.setdefault((row["image_id"], xyxy), row))["category_id"] != row["category_id"]:
            twofold.append((row, other))
    return [
        *_note(file, alike, "have nearly the box of another one of their image and category: are they one object?"),
        *_note(file, twofold, "have exactly the box of an object of another category"),
    ]


def _with_box(annotations: Sequence[Row], boxes: Mapping[int, XYXY]) -> list[Row]:
    return [row for row in annotations if row["id"] in boxes]


def _note(file: AnnotationFile, pairs: Sequence[tuple[Row, Row]], rule: str) -> list[str]:
    if not pairs:
        return []
    row, other = pairs[0]
    first = f"first {file.place_of(row)}, as {file.name_of(other)}"
    return [f"{len(pairs)} of {len(file.annotations)} annotations {rule} ({first})"]
