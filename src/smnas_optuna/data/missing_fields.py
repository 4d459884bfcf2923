"""Names and sizes of images, where annotations state others or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smnas_optuna.data.failures import refuse_failures
from smnas_optuna.data.image_paths import find_images
from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import quiet_pillow, upright_size

_HEADER_BYTES = 2**20  # memory to read the size of an image; a PNG with large side data takes more


_NAME_FIELDS = ("coco_url", "path", "filename", "fileName", "file")
"""Fields that name the files of images in place of ``file_name``: in LVIS an address alone, elsewhere a path."""


def complete(document: Mapping[str, Any], source: Path, folder: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return a COCO document as :func:`with_names` and :func:`with_sizes` do, with the notes of both.

    Raises:
        DataError: As :func:`with_sizes`.
    """
    document, notes = with_names(document)
    document, more = with_sizes(document, source, folder)
    return document, [*notes, *more]


def with_names(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """Return a COCO document with ``file_name`` of its images, and a note, if none has it and all have another name."""
    rows = document.get("images")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return document, []
    if any("file_name" in row for row in rows):
        return document, []
    for field in _NAME_FIELDS:
        if all(isinstance(row.get(field), str) and row[field] for row in rows):
            note = f"none of {len(rows)} images has file_name: {field} is taken"
            return {**document, "images": [{**row, "file_name": row[field]} for row in rows]}, [note]
    return document, []


def with_sizes(document: Mapping[str, Any], source: Path, folder: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return a COCO document with ``height`` and ``width`` of its images, and a note, if it states that of none.

    A document that states some, or whose rows of images are not as they should be, is returned as it is.

    Args:
        document: The document.
        source: Its file, for messages.
        folder: The image folder.

    Raises:
        DataError: If an image is missing, is named twice, lies outside ``folder`` or cannot be read.
    """
    rows = document.get("images")
    if not isinstance(rows, list) or not rows or not all(map(_lacks_size, rows)):
        return document, []
    named = [{"id": number, "file_name": row["file_name"]} for number, row in enumerate(rows)]
    paths, _ = find_images(named, source, folder)
    sizes = read_sizes([paths[number] for number in range(len(rows))])
    sized = [{**row, "height": height, "width": width} for row, (height, width) in zip(rows, sizes, strict=True)]
    note = f"none of {len(rows)} images states width and height: read from the files, upright as EXIF says"
    return {**document, "images": sized}, [note]


def _lacks_size(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"]:
        return False
    return all(row.get(edge) in (None, 0) for edge in ("height", "width"))


def read_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return (height, width) of every image, pixels, upright as its EXIF data says; no pixel is decoded.

    Raises:
        DataError: If an image cannot be read.
    """
    with quiet_pillow():
        results = list(map_in_threads(_size_or_error, paths, bytes_each=_HEADER_BYTES))
    failures = [result for result in results if isinstance(result, DataError)]
    fix = "replace these files, or remove them"
    refuse_failures(failures, len(paths), fix=fix, of_one=("add the file", "replace the file, or remove it"))
    return [result for result in results if not isinstance(result, DataError)]


def _size_or_error(path: Path) -> tuple[int, int] | DataError:
    try:
        return upright_size(path)
    except DataError as error:
        return error
