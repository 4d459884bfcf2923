"""Outlines and masks beside the boxes of a COCO document: where they disagree, one of them is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smnas_optuna.data.coco_box import is_box
from smnas_optuna.data.outline import box_of_outline
from smnas_optuna.data.rows import Row, refuse
from smnas_optuna.quote import quote

_COMPARED = 500
"""Outlines that are compared with their boxes, from all over the file; reading all of COCO's takes half a minute."""
_ALIKE = 0.5
"""Intersection over union from which on a box is that of the outline; boxes are often a little larger."""
_FEWEST, _SHARE = 3, 0.1
"""Boxes that are not those of their outlines, as a number and as a share of those compared, that are worth a note."""


def check_outlines(annotations: Sequence[Row], written: Sequence[Row], images: Sequence[Row], path: Path) -> list[str]:
    """Check that boxes were not taken from masks of another size than their images; return notes on other outlines.

    Args:
        annotations: As read, with ``outlined``.
        written: The same annotations, as they are in the document.
        images: Rows of images.
        path: The file, for messages.

    Raises:
        DataError: If a box was taken from such a mask.
    """
    sizes = {row["id"]: [row["height"], row["width"]] for row in images}
    taken = [position for position, row in enumerate(annotations) if row["outlined"]]

    def size_of_image(position: int) -> list[int] | None:
        return sizes.get(annotations[position]["image_id"])

    others = [position for position in taken if _size_of_mask(written[position]) not in (None, size_of_image(position))]
    refuse(
        path,
        others,
        lambda position: (
            f"annotations[{position}] has a mask of (height, width) {quote(_size_of_mask(written[position]))}, "
            f"its image is {quote(size_of_image(position))}"
        ),
        "annotations without a box have a mask of another size than their image",
        total=len(annotations),
        fix="write bbox as (x, y, width, height) in pixels of the image, or masks of its size",
    )
    return _note_elsewhere(annotations, written)


def _size_of_mask(row: Row) -> Any:
    segmentation = row.get("segmentation")
    return segmentation.get("size") if isinstance(segmentation, dict) else None


def _note_elsewhere(annotations: Sequence[Row], written: Sequence[Row]) -> list[str]:
    """Return a note on boxes that are elsewhere than the outlines of their annotations."""
    own = [place for place, row in enumerate(annotations) if is_box(row["bbox"]) and written[place].get("segmentation")]
    some = own[:: max(1, len(own) // _COMPARED)]
    outlines = [
        (place, box_of_outline(written[place]["segmentation"])) for place in some if not annotations[place]["outlined"]
    ]
    pairs = [(place, outline) for place, outline in outlines if outline is not None and is_box(outline)]
    elsewhere = [(place, outline) for place, outline in pairs if _overlap(annotations[place]["bbox"], outline) < _ALIKE]
    if len(elsewhere) < max(_FEWEST, _SHARE * len(pairs)):
        return []
    place, outline = elsewhere[0]
    first = (
        f"first annotations[{place}]: bbox {quote(annotations[place]['bbox'])}, that of its outline is {quote(outline)}"
    )
    what = f"{len(elsewhere)} of {len(pairs)} boxes that were compared with the outlines beside them are elsewhere"
    return [f"{what}, {first}: are the boxes in another unit or order of numbers? The outlines are not used"]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (x, y, width, height) with an area."""
    width, height = (min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    common = max(width, 0) * max(height, 0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)
