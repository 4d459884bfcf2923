"""A COCO annotation file and its image folder -> a checked data set."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.allowance import free_memory
from smnas_optuna.data.annotation_file import AnnotationFile, check_document, read_document
from smnas_optuna.data.annotations import Annotations
from smnas_optuna.data.areas import areas_of
from smnas_optuna.data.box_check import check_boxes
from smnas_optuna.data.coco_box import XYXY
from smnas_optuna.data.image_paths import find_images
from smnas_optuna.data.limits import refuse_crowding, refuse_excess
from smnas_optuna.data.missing_fields import complete
from smnas_optuna.data.rows import Row
from smnas_optuna.quote import printable_name


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageRecord:
    """One image with its ``N`` boxes, crowd regions last; ``N`` may be 0.

    Attributes:
        image_id: COCO image id.
        path: The image file.
        height: Pixels, as stated in the annotation file, which counts pixels after EXIF rotation or before it.
        width: As ``height``.
        boxes: float32 [N, 4], (x1, y1, x2, y2) in pixels of the original image, clipped to it; x1 < x2, y1 < y2.
        labels: int64 [N], 1..num_classes.
        crowd: bool [N], whether a box is a COCO crowd region.
        grey_bits: Bits of the values of images with more than 8 bits a channel, 8..16: the upper 8 of these are kept.
        turned: True if the image is turned as its EXIF data say where the stated size does not tell.
    """

    image_id: int
    path: Path
    height: int
    width: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    grey_bits: int = 16
    turned: bool = True

    @property
    def portrait(self) -> bool:
        """True if the image is taller than wide; a square image is landscape."""
        return self.height > self.width


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CocoDataset:
    """The images of one annotation file.

    Attributes:
        source: The annotation file.
        images: In the order of the file.
        category_ids: Ascending, holes allowed; label ``l`` is ``category_ids[l - 1]``.
        category_names: In the order of ``category_ids``; one line each, harmless on a terminal (see
            :func:`smnas_optuna.quote.printable_name`), but any text beyond that: HTML is not escaped.
        annotations: As in the file, without those that were dropped, for the official metric.
        notes: Corrections made while loading, with counts, as messages for the user.
    """

    source: Path
    images: tuple[ImageRecord, ...]
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    annotations: Annotations
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.category_ids)

    @property
    def max_boxes(self) -> int:
        """Largest number of boxes in an image, crowd regions included."""
        return max((len(image.boxes) for image in self.images), default=0)

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return a new COCO document (``images``, ``annotations``, ``categories``): pycocotools modifies it."""
        # pycocotools treats a match with annotation id 0 as no match, so ids begin at 1
        annotations = [{**row, "id": number} for number, row in enumerate(self.annotations, start=1)]
        images = [
            {"id": image.image_id, "file_name": image.path.name, "height": image.height, "width": image.width}
            for image in self.images
        ]
        pairs = zip(self.category_ids, self.category_names, strict=True)
        categories = [{"id": category_id, "name": name} for category_id, name in pairs]
        return {"images": images, "annotations": annotations, "categories": categories}

    def subset(self, keep: Collection[int]) -> CocoDataset:
        """Return the data set with only the images whose ids are in ``keep``, and all categories."""
        return replace(
            self,
            images=tuple(image for image in self.images if image.image_id in keep),
            annotations=self.annotations.where(np.isin(self.annotations.image_id, list(keep))),
        )


def load_coco(
    annotations: Path,
    images: Path,
    *,
    drop_empty_boxes: bool = False,
    free_bytes: Callable[[], int] = free_memory,
) -> CocoDataset:
    """Load and check the data set that ``annotations`` describes; the image files must exist.

    They are opened only if the file states the size of none.

    Args:
        annotations: A COCO annotation file.
        images: The folder that ``file_name`` is relative to.
        drop_empty_boxes: Drop annotations whose box has no area, lies outside its image, is not four numbers or is
            missing without an outline to take it from.
        free_bytes: Returns the free memory in bytes.

    Raises:
        DataError: If the annotation file cannot be used or exceeds a limit (see :mod:`smnas_optuna.data.limits`), an
            image is missing, is named twice or lies outside ``images``, a box cannot be used and ``drop_empty_boxes``
            is false, or the boxes are not in pixels or not in COCO's layout.
    """
    document, notes = complete(read_document(annotations, free_bytes), annotations, images)
    file = check_document(document, annotations)
    file = replace(file, notes=(*notes, *file.notes))
    return check_dataset(file, annotations, images, drop_empty_boxes=drop_empty_boxes, free_bytes=free_bytes)


def check_dataset(
    file: AnnotationFile,
    annotations: Path,
    images: Path,
    *,
    drop_empty_boxes: bool = False,
    free_bytes: Callable[[], int] = free_memory,
) -> CocoDataset:
    """Return the checked data set of the rows in ``file``, whatever format they are from; see :func:`load_coco`.

    Args:
        file: The rows.
        annotations: The file, or the folder, that messages name.
        images: As in :func:`load_coco`.
        drop_empty_boxes: As in :func:`load_coco`.
        free_bytes: Returns the free memory in bytes.

    Raises:
        DataError: As :func:`load_coco`.
    """
    refuse_excess(file, annotations)
    paths, path_notes = find_images(file.images, annotations, images)
    boxes, notes = check_boxes(file, annotations, drop=drop_empty_boxes)
    kept = [row for row in file.annotations if row["id"] in boxes]
    rows_by_id = {row["id"]: row for row in file.images}
    counts = Counter(row["image_id"] for row in kept)
    refuse_crowding(
        counts,
        len(file.images),
        annotations,
        free_bytes,
        name_of=lambda image_id: file.name_of_image(rows_by_id[image_id]),
    )
    areas, area_notes = areas_of(kept, file)
    names, name_notes = _category_names(file.categories)
    category_ids = tuple(int(row["id"]) for row in file.categories)
    labels = {category_id: position + 1 for position, category_id in enumerate(category_ids)}
    by_image: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(kept, key=lambda row: int(row["iscrowd"])):
        by_image[row["image_id"]].append(row)
    return CocoDataset(
        source=annotations,
        images=tuple(_record(row, paths[row["id"]], by_image[row["id"]], boxes, labels) for row in file.images),
        category_ids=category_ids,
        category_names=names,
        annotations=replace(Annotations.of(kept), area=areas),
        notes=(*file.notes, *name_notes, *path_notes, *notes, *area_notes),
    )


def _category_names(rows: Sequence[Row]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return printable names, and a note with the first id if any name was changed."""
    names = tuple(printable_name(row["name"]) for row in rows)
    mended = [row["id"] for row, name in zip(rows, names, strict=True) if name != row["name"]]
    if not mended:
        return names, ()
    which = f"{len(mended)} of {len(rows)} categories, first that with id {mended[0]}"
    return names, (f"{which}, have control characters in their names: replaced by \N{REPLACEMENT CHARACTER}",)


def _record(image: Row, path: Path, rows: Sequence[Row], boxes: dict[int, XYXY], labels: dict[int, int]) -> ImageRecord:
    return ImageRecord(
        image_id=image["id"],
        path=path,
        height=image["height"],
        width=image["width"],
        boxes=np.array([boxes[row["id"]] for row in rows], np.float32).reshape(-1, 4),
        labels=np.array([labels[row["category_id"]] for row in rows], np.int64),
        crowd=np.array([row["iscrowd"] for row in rows], np.bool_),
    )
