"""What a reader of a format finds of a split: rows as those of a COCO file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smnas_optuna.data.annotation_file import AnnotationFile, check_document
from smnas_optuna.data.rows import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A split.

    Attributes:
        source: The file or folder that messages name.
        folder: The folder that the images' ``file_name`` is relative to.
        file: The rows.
    """

    source: Path
    folder: Path
    file: AnnotationFile


@dataclass(kw_only=True, slots=True)
class Rows:
    """The rows of a split while they are gathered; ids are numbers from 1, in the order of the rows.

    Attributes:
        images: Rows of images.
        annotations: Rows of annotations.
        origins: Where each annotation is from.
    """

    images: list[Row] = field(default_factory=list)
    annotations: list[Row] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)

    def add_image(self, file_name: str, size: tuple[int, int]) -> int:
        """Add an image of (height, width) pixels, and return its id."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": file_name, "height": size[0], "width": size[1]})
        return number

    def add(self, image_id: int, category_id: int, bbox: Sequence[float] | None, *, crowd: bool, origin: str) -> None:
        """Add an annotation with a box (x, y, width, height) in pixels, or without one."""
        row = {"id": len(self.annotations) + 1, "image_id": image_id, "category_id": category_id}
        box = None if bbox is None else [float(number) for number in bbox]
        self.annotations.append({**row, "bbox": box, "iscrowd": int(crowd)})
        self.origins.append(origin)

    def found(
        self, *, source: Path, folder: Path, names: Sequence[str], notes: Sequence[str] = (), box_fix: str
    ) -> Found:
        """Return the split; category ``number``, from 1, has the name ``names[number - 1]``."""
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        document = {"images": self.images, "annotations": self.annotations, "categories": categories}
        file = check_document(document, source)
        file = replace(file, notes=(*notes, *file.notes), origins=self.origins, box_fix=box_fix)
        return Found(source=source, folder=folder, file=file)
