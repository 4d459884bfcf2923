"""Notes on what the rows of a COCO document say in another way than COCO does, and how that is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from smnas_optuna.data.coco_box import is_box, is_coordinate, upright_size
from smnas_optuna.data.rows import Row
from smnas_optuna.quote import quote

MANY_CROWDS = 0.1
"""Share of crowds that is told: of COCO's own annotations one in a hundred is one."""


def note_boxes_of_outlines(annotations: Sequence[Row]) -> list[str]:
    """Return a note on boxes that were taken from outlines, and take that mark from the rows."""
    why = {position: each for position, row in enumerate(annotations) if (each := row.pop("outlined"))}
    if not why:
        return []
    which = f"{len(why)} of {len(annotations)} annotations, first annotations[{min(why)}]"
    return [f"{which}, have {max(why.values())}: taken from their outlines"]


def turn_boxes(annotations: Sequence[Row]) -> list[str]:
    """Measure boxes with a negative width or height from their other corner, with a note, if they are the fewer ones.

    Tools write them for what is drawn from right to left or upwards. If they are the most, the sign may be the mistake.
    """
    places = [place for place, row in enumerate(annotations) if _is_turned(row["bbox"])]
    if not places or 2 * len(places) > len(annotations):
        return []
    for place in places:
        x, y, width, height = annotations[place]["bbox"]
        annotations[place]["bbox"] = [min(x, x + width), min(y, y + height), abs(width), abs(height)]
    which = f"{len(places)} of {len(annotations)} annotations, first annotations[{places[0]}]"
    return [f"{which}, have a negative width or height: measured from their other corner"]


def _is_turned(bbox: object) -> bool:
    """Return whether ``bbox`` has a negative size; -1 is no size, but none at all."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_coordinate, bbox)):
        return False
    return min(bbox[2:]) < 0 and not {-1, 0} & set(bbox[2:])


def turn_rotated(annotations: Sequence[Row], written: Sequence[Row]) -> list[str]:
    """Take the upright box around each turned one without an outline, with a note.

    CVAT writes a turned rectangle as it was before the turn about its centre, and the degrees as an attribute
    (https://github.com/cvat-ai/cvat/issues/4745).
    """
    places = []
    for place, (row, its) in enumerate(zip(annotations, written, strict=True)):
        attributes, bbox = its.get("attributes"), row["bbox"]
        degrees = attributes.get("rotation") if isinstance(attributes, dict) else None
        if degrees is None or not is_coordinate(degrees) or degrees % 180 == 0 or its.get("segmentation"):
            continue
        if not is_box(bbox):
            continue
        x, y, width, height = bbox
        wide, tall = upright_size(width, height, math.radians(degrees))
        row["bbox"] = [x + (width - wide) / 2, y + (height - tall) / 2, wide, tall]
        places.append(place)
    if not places:
        return []
    which = f"{len(places)} of {len(annotations)} annotations, first annotations[{places[0]}]"
    return [f"{which}, are turned (rotation, as CVAT writes it): the upright box around each is taken"]


def note_masks_as_crowds(annotations: Sequence[Row], written: Sequence[Row]) -> list[str]:
    """Take ``iscrowd`` from annotations that are all masks of crowds, with a note: CVAT writes masks of objects so."""
    masks = all(row["iscrowd"] == 1 for row in annotations) and all(
        isinstance(row.get("segmentation"), dict) for row in written
    )
    if not annotations or not masks:
        return _note_many_crowds(annotations, written)
    for row in annotations:
        row["iscrowd"] = 0
    return [f"all {len(annotations)} annotations are masks with iscrowd 1, as CVAT writes objects: read as objects"]


def _note_many_crowds(annotations: Sequence[Row], written: Sequence[Row]) -> list[str]:
    """Return a note on masks of crowds that are too many to be crowds, as among polygons of CVAT."""
    masks = [place for place, row in enumerate(written) if isinstance(row.get("segmentation"), dict)]
    places = [place for place in masks if annotations[place]["iscrowd"] == 1]
    if len(places) <= MANY_CROWDS * len(annotations):
        return []
    which = f"{len(places)} of {len(annotations)} annotations, first annotations[{places[0]}]"
    return [
        f"{which}, are masks with iscrowd 1: they count neither as missed nor as false; CVAT writes masks of objects "
        "so, and those should have iscrowd 0"
    ]


def note_ignored(annotations: Sequence[Row], written: Sequence[Row]) -> list[str]:
    """Return a note on objects that are marked to be ignored: pycocotools takes notice of crowds alone."""
    places = [place for place, row in enumerate(written) if row.get("ignore") in (1, "1")]
    places = [place for place in places if not annotations[place]["iscrowd"]]
    if not places:
        return []
    which = f"{len(places)} of {len(annotations)} annotations, first annotations[{places[0]}], have ignore 1"
    return [f"{which}: read as objects, as in COCO; iscrowd 1 counts them neither as missed nor as false"]


def note_names(categories: Sequence[Row]) -> list[str]:
    """Turn names that are numbers into text, and return notes on names that two categories share."""
    notes, numbers = [], [row["id"] for row in categories if isinstance(row["name"], int)]
    first_of: dict[str, Row] = {}
    doubles: list[Row] = []
    for row in categories:
        row["name"] = str(row["name"])
        if first_of.setdefault(" ".join(row["name"].casefold().split()), row) is not row:
            doubles.append(row)
    if numbers:
        which = f"{len(numbers)} of {len(categories)} categories, first that with id {numbers[0]}"
        notes.append(f"{which}, have a number for a name: read as text")
    if doubles:
        row = doubles[0]
        other = first_of[" ".join(row["name"].casefold().split())]
        notes.append(
            f"{len(doubles)} of {len(categories)} categories have the name of another: they stay different classes; "
            f"first: ids {other['id']} and {row['id']}, {quote(other['name'])} and {quote(row['name'])}"
        )
    return notes
