"""Image files -> RGB pixels, and an index of what they hold."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from smnas_optuna.data.coco import ImageRecord
from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.errors import DataError

MEAN_COLOUR = (124, 116, 104)
"""RGB, 0..255: ImageNet's mean colour, which normalises to nothing; it pads canvases."""

# What Pillow raises on damaged files, depending on the format and on where the damage is.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def decode_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """The pixels of an image file as RGB, uint8 [height, width, 3].

    Any mode becomes RGB: transparency is ignored, 16-bit grey keeps its upper 8 bits. An EXIF rotation is applied if
    the rotated image has the stated size, and left out if only the image as stored has it: annotation tools do either.

    Args:
        path: The image file.
        height: As stated in the annotation file.
        width: As stated in the annotation file.

    Raises:
        DataError: If the file is missing, is not a whole image, or has another size than stated.
    """
    try:
        with Image.open(path) as image:
            upright = _rotate(image, height, width)
            pixels = None if upright is None else _to_rgb(upright)
            stored = (image.height, image.width)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such image", fix="put it there, or take it out of the file") from error
    except _DAMAGE as error:
        raise DataError(
            f"{path}: the image cannot be read: {error}", fix="replace the file, or take it out of the annotation file"
        ) from error
    if pixels is None:
        is_size, stated = f"{stored[1]}x{stored[0]}", f"{width}x{height}"
        raise DataError(
            f"{path}: the image is {is_size} pixels (width x height), its annotation says {stated}",
            fix="correct width and height in the annotation file, or replace the image",
        )
    return pixels


def index_content(
    records: Sequence[ImageRecord], index_file: Path | None, on_progress: Progress | None = None
) -> dict[Path, str]:
    """A hash of the decoded pixels of every image, by its path; every image is decoded once to get it.

    Args:
        records: The images.
        index_file: Where the hashes are remembered: as long as path, file size, time of change and stated size are the
            same, an image is not decoded again. A damaged index is made anew.
        on_progress: Told about the images that are being decoded.

    Raises:
        DataError: If an image cannot be decoded as stated, or the index cannot be written.
    """
    known = _read_index(index_file)
    keys = [file_identity(record) for record in records]
    new = [(key, record) for key, record in zip(keys, records, strict=True) if key not in known]
    failures: list[DataError] = []
    results = map_in_threads(_hash_or_error, [record for _, record in new])
    try:
        for done, ((key, _), result) in enumerate(zip(new, results, strict=True), start=1):
            if isinstance(result, DataError):
                failures.append(result)
            else:
                known[key] = result
            if on_progress:
                on_progress(done, len(new))
    finally:  # who stops here has not decoded for nothing
        if index_file is not None and new:
            _write_index(index_file, {key: known[key] for key in keys if key in known})
    if len(failures) > 1:
        message = f"{len(failures)} of {len(records)} images cannot be used"
        fix = "replace these files, or take them out of the annotation file"
        raise DataError(message, first=str(failures[0]).splitlines()[0], fix=fix) from failures[0]
    if failures:
        raise failures[0]
    return {record.path: known[key] for key, record in zip(keys, records, strict=True)}


def file_identity(record: ImageRecord) -> str:
    """A text that changes when the image file or its stated size does.

    Raises:
        DataError: If the file is not there any more.
    """
    try:
        stat = record.path.stat()
    except OSError as error:
        raise DataError(
            f"{record.path}: the image cannot be read: {error.strerror}", fix="put it there, or take it out of the file"
        ) from error
    return f"{record.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{record.width}x{record.height}"


def _rotate(image: Image.Image, height: int, width: int) -> Image.Image | None:
    """``image`` the way that has the stated size, or None."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    turned = orientation in (5, 6, 7, 8)  # by 90 degrees; 2, 3 and 4 keep the size
    if (height, width) == ((image.width, image.height) if turned else (image.height, image.width)):
        return ImageOps.exif_transpose(image)
    return image if (height, width) == (image.height, image.width) else None


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose scale nobody knows")
    if image.mode.startswith("I"):
        return _deep_grey_to_rgb(np.asarray(image))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about the direct way
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image.convert("RGB"))


def _deep_grey_to_rgb(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16-bit grey values, in whatever type Pillow keeps them, as RGB: the same scale for every image."""
    values = grey.astype(np.float64)
    if not (values.min() >= 0 and values.max() < 2**16):
        raise ValueError("grey values outside 0..65535")
    return np.repeat((values // 2**8).astype(np.uint8)[:, :, None], 3, axis=2)


def _hash_or_error(record: ImageRecord) -> str | DataError:
    try:
        pixels = decode_image(record.path, record.height, record.width)
    except DataError as error:
        return error
    digest = blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _read_index(index_file: Path | None) -> dict[str, str]:
    if index_file is None:
        return {}
    try:
        index = json.loads(index_file.read_bytes())
    except (OSError, ValueError):  # not there yet, or damaged: both mean decoding again
        return {}
    if not isinstance(index, dict):
        return {}
    return {key: value for key, value in index.items() if isinstance(value, str)}


def _write_index(index_file: Path, index: dict[str, str]) -> None:
    temporary = index_file.with_name(f"{index_file.name}.{os.getpid()}.tmp")
    try:
        index_file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(index, indent=0), encoding="utf-8")
        temporary.replace(index_file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataError(
            f"{index_file}: the index of the images cannot be written: {error.strerror}",
            fix="free space on the disk, or make the folder writable",
        ) from error
