"""A COCO annotation file -> rows with all fields, each of the right type and consistent with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.allowance import free_memory
from smnas_optuna.data.coco_notes import (
    note_boxes_of_outlines,
    note_ignored,
    note_masks_as_crowds,
    note_names,
    turn_boxes,
    turn_rotated,
)
from smnas_optuna.data.coco_rows import FORMAT_FIX, read_table
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.other_tools import other_tool
from smnas_optuna.data.outline_check import check_outlines
from smnas_optuna.data.rows import Row, refuse
from smnas_optuna.data.text_ids import ids_for_names, number_text_ids
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_error
from smnas_optuna.runtime.other_content import other_content

_UTF8_FIX = "save the file in UTF-8: it is in the encoding of one system, or no text"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationFile:
    """The content of an annotation file, or of files in another format; each row has exactly the fields named here.

    Attributes:
        images: ``id``, ``file_name``, ``height`` and ``width`` (pixels, at least 1).
        annotations: ``id`` (no two are equal), ``image_id``, ``category_id``, ``bbox`` (not checked yet; as written,
            or that of the outline if there is none, or None), ``area`` (square pixels, at most ``MAX_AREA``; NaN if
            none is stated) and ``iscrowd`` (0 or 1).
        categories: ``id`` and ``name``, ids ascending.
        renumbered: True if the ids of the annotations are their places in the file, from 1, as the file has no ids of
            its own that could name them.
        notes: What was read otherwise than it is written, with counts, as messages for the user.
        origins: File and line, or file and object, that each annotation is from, in the order of ids, which begin at 1;
            None for COCO. With origins, an image is named by its ``file_name``, as nobody has seen its id.
        box_fix: How boxes are to be written, if not as in COCO.
    """

    images: list[Row]
    annotations: list[Row]
    categories: list[Row]
    renumbered: bool = False
    notes: tuple[str, ...] = ()
    origins: Sequence[str] | None = None
    box_fix: str | None = None

    def name_of(self, annotation: Row) -> str:
        """Return words that a user finds ``annotation`` by: its origin, its id, or its place in the list."""
        if self.origins is not None:
            return self.origins[int(annotation["id"]) - 1]
        return f"annotations[{annotation['id'] - 1}]" if self.renumbered else f"annotation {annotation['id']}"

    def place_of(self, annotation: Row) -> str:
        """Return :meth:`name_of`, and the image if the name does not tell it."""
        name = self.name_of(annotation)
        return name if self.origins is not None else f"{name} of image {annotation['image_id']}"

    def name_of_image(self, image: Row) -> str:
        """Return words that a user finds ``image`` by."""
        return f"image {quote(image['file_name'])}" if self.origins is not None else f"image {image['id']}"


def check_document(document: Mapping[str, Any], path: Path) -> AnnotationFile:
    """Return the rows of a COCO document; ``path`` is its file, for messages.

    Raises:
        DataError: If it is not COCO: a list, a field, an image or a category is missing, a field has the wrong type,
            the id of an image or of a category is used twice, there are no images or no categories, or the only box of
            an annotation is a mask of another size than its image.
    """
    numbered, notes = number_text_ids(document)
    numbered, more = ids_for_names(numbered)
    document, notes = dict(numbered), [*notes, *more]
    categories, images, annotations = (
        read_table(document, name, path, notes) for name in ("categories", "images", "annotations")
    )
    for name, rows in (("categories", categories), ("images", images)):
        if not rows:
            raise DataError(f"{path}: there are no {name}: the list is empty", fix=FORMAT_FIX)
        _leave_out_repeats(rows, name, path, notes)
    written = document["annotations"]
    outlines = check_outlines(annotations, written, images, path)
    notes += [*note_boxes_of_outlines(annotations), *outlines, *turn_boxes(annotations), *note_names(categories)]
    notes += [*turn_rotated(annotations, written), *note_masks_as_crowds(annotations, written)]
    notes += note_ignored(annotations, written)
    renumbered = _number(annotations, notes)
    categories.sort(key=lambda row: int(row["id"]))
    file = AnnotationFile(
        images=images, annotations=annotations, categories=categories, renumbered=renumbered, notes=tuple(notes)
    )
    _refuse_unknown(file, "image_id", {row["id"] for row in images}, path)
    _refuse_unknown(file, "category_id", {row["id"] for row in categories}, path)
    return file


def read_document(path: Path, free_bytes: Callable[[], int] = free_memory) -> Row:
    """Return the content of a COCO file, of which nothing is checked but that it is a JSON object.

    Raises:
        DataError: If it cannot be read, does not fit into memory, or is anything else.
    """
    try:
        document = read_json(path, free_bytes)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such annotation file", fix="name the file in [data] of study.toml, relative to --data"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: the annotation file cannot be read: {quote_error(error)}", fix="make it a readable file"
        ) from error
    except MemoryError as error:
        raise DataError(
            f"{path}: the annotation file does not fit into memory: {quote_error(error)}",
            fix="remove data that is not needed, such as segmentations, or free memory",
        ) from error
    except ValueError as error:
        fix = _UTF8_FIX if isinstance(error.__cause__, UnicodeDecodeError) else FORMAT_FIX
        what, remedy = other_content(path) or (quote_error(error), fix)
        raise DataError(f"{path}: this is not JSON: {what}", fix=remedy) from error
    if (other := other_tool(document)) is not None:
        what, fix = other
        raise DataError(f"{path}: this is not COCO: it looks like {what}", fix=fix)
    if not isinstance(document, dict):
        raise DataError(f"{path}: this is not COCO: the file holds a {type(document).__name__}", fix=FORMAT_FIX)
    return document


def _number(annotations: Sequence[Row], notes: list[str]) -> bool:
    """Number the annotations anew, with a note, if their ids are missing or repeat; return whether that was so."""
    seen: dict[int, int] = {}
    ids = [row["id"] for row in annotations]
    bad = [place for place, row_id in enumerate(ids) if row_id is None or seen.setdefault(row_id, place) != place]
    if not bad:
        return False
    row_id = ids[bad[0]]
    what = "has none" if row_id is None else f"has {row_id}, as annotations[{seen[row_id]}] has"
    which = f"{len(bad)} of {len(ids)} annotations have no id or that of another"
    notes.append(f"{which}, first: annotations[{bad[0]}] {what}: all are numbered anew")
    for place, row in enumerate(annotations, start=1):
        row["id"] = place
    return True


def _leave_out_repeats(rows: list[Row], name: str, path: Path, notes: list[str]) -> None:
    """Remove rows that repeat another one, with a note; refuse those that have only its id."""
    seen: dict[int, int] = {}
    doubles = [position for position, row in enumerate(rows) if seen.setdefault(row["id"], position) != position]

    def describe(position: int) -> str:
        row_id = rows[position]["id"]
        return f"{name}[{position}] has id {row_id}, as {name}[{seen[row_id]}] has"

    offenders = [position for position in doubles if rows[position] != rows[seen[rows[position]["id"]]]]
    fix = "give every one an id of its own"
    refuse(path, offenders, describe, f"{name} repeat the id of another", total=len(rows), fix=fix)
    if doubles:
        notes.append(f"{len(doubles)} of {len(rows)} {name} repeat another one, first {describe(doubles[0])}: left out")
        dropped = set(doubles)
        rows[:] = [row for position, row in enumerate(rows) if position not in dropped]


def _refuse_unknown(file: AnnotationFile, field: str, known: AbstractSet[int], path: Path) -> None:
    offenders = [row for row in file.annotations if row[field] not in known]
    rule = f"annotations belong to {'an image' if field == 'image_id' else 'a category'} that is not in the file"
    fix = "remove these annotations, or add what they belong to"
    used = {int(row[field]) for row in file.annotations}
    if used and any(known >= {number + step for number in used} for step in (1, -1)):
        fix = f"make both count from the same number: the ids begin at {min(known)}, {field} at {min(used)}; or {fix}"

    def describe(row: Row) -> str:
        return f"{file.name_of(row)} has {field} {row[field]}"

    refuse(path, offenders, describe, rule, total=len(file.annotations), fix=fix)
