"""The image files of a data set -> RGB pixels of the stated sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smnas_optuna.data.coco import ImageRecord
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_path
from smnas_optuna.runtime.image_files import Decoded, explained_damage, read_image

DECODING_BYTES = 18
"""Memory per pixel while an image is decoded. RGB: Pillow's 4 bytes, 4 of a rotated copy, and twice the array's 3.
16-bit grey: Pillow's 4, 4 of the array, 4 of the scaled array, 1 of 8-bit grey and 3 of RGB. 16-bit colour: 4 of
each of two images in Pillow, 6 of the values and 4 of an array and its conversion."""

_MISSING = "add the file, or remove the image from the annotation file"
_BROKEN = "replace the file, or remove the image from the annotation file"
FIXES = (_MISSING, _BROKEN)
"""Advice for a single image."""

Progress = Callable[[int, int], None]
"""Called with (images done, total number of images)."""


def decode(record: ImageRecord) -> Decoded:
    """Decode the image file of ``record``.

    Every mode is converted to RGB: transparency is ignored, grey and colour with more than 8 bits keep the upper 8 of
    ``record.grey_bits``. Of an animation or a file with several pages, the first one is used. The EXIF rotation is
    applied if the rotated image has the stated size, and ignored if only the stored image has it: annotation tools do
    either. Where both have it, ``record.turned`` decides. Unreadable EXIF data is ignored, and so are text and colour
    profile of a PNG that Pillow refuses for them.

    The size is compared before any pixel is decoded, so that a small file cannot allocate more memory than its stated
    size needs; the stated size is limited by :data:`smnas_optuna.data.limits.MAX_PIXELS`.

    Pillow may warn about the file: see :func:`smnas_optuna.runtime.image_files.quiet_pillow`.

    Raises:
        DataError: If the file is missing, is not a complete image, or does not have the stated size.
    """
    path, height, width = record.path, record.height, record.width
    with explained_damage(
        path,
        f"the image, {width}x{height} pixels,",
        missing=_MISSING,
        broken=_BROKEN,
    ):
        decoded, stored = read_image(path, (height, width), grey_bits=record.grey_bits, turn=record.turned)
    size = stored if decoded is None else decoded.pixels.shape[:2]
    if decoded is None or size != (height, width):
        raise DataError(
            f"{quote_path(path)}: the image is {size[1]}x{size[0]} pixels (width x height), its annotation says "
            f"{width}x{height}",
            fix="correct width and height in the annotation file, or replace the image",
        )
    return decoded


def decoding_bytes(records: Sequence[ImageRecord]) -> int:
    """Return the memory in bytes that the largest image takes while it is decoded."""
    return DECODING_BYTES * max((record.height * record.width for record in records), default=0)
