"""Image files -> RGB pixels, and an index of their content hashes."""

from __future__ import annotations

import json
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from smnas_optuna.data.coco import ImageRecord
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.data.quote import quote_error, quote_path
from smnas_optuna.data.regular_file import check_regular_file
from smnas_optuna.errors import DataError
from smnas_optuna.real_files import write_anew

MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean colour, RGB, 0..255; it pads canvases, and normalisation maps it to about 0."""

DECODING_BYTES = 16
"""Memory per pixel while an image is decoded. RGB: Pillow's 4 bytes, 4 of a rotated copy, and twice the array's 3.
16-bit grey: Pillow's 4, 4 of the array, 4 of the scaled array, 1 of 8-bit grey and 3 of RGB."""

# Formats that cameras, scanners and annotation tools write. Pillow opens more, by content whatever the file's name, and
# for EPS it starts a program, Ghostscript. MPO, which some cameras write, is identified as JPEG.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MAX_FILE = 2**31  # bytes; the largest image (MAX_PIXELS) at 8 uncompressed bytes a pixel has 1.4e9
_MAX_SCANS = 500  # of a JPEG; encoders write about ten. Even a scan of a few bytes costs a pass over all pixels

_HASH_BYTES = 16
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # the transpose that makes an image upright, by EXIF orientation

_HASH = re.compile(f"[0-9a-f]{{{2 * _HASH_BYTES}}}")

# Errors that Pillow raises on damaged files, depending on the format and the place of the damage.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Pillow logs an error before it raises it; without a handler, Python would print the log on the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

Progress = Callable[[int, int], None]
"""Called with (images done, total number of images)."""


def decode_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return the pixels of an image file as RGB, uint8 [height, width, 3].

    Every mode is converted to RGB: transparency is ignored, 16-bit grey keeps its upper 8 bits. Of an animation or a
    file with several pages, the first one is used. The EXIF rotation is applied if the rotated image has the stated
    size, and ignored if only the stored image has it: annotation tools do either. Unreadable EXIF data is ignored.

    The size is compared before any pixel is decoded, so that a small file cannot allocate more memory than its stated
    size needs; the stated size is limited by :data:`smnas_optuna.data.limits.MAX_PIXELS`.

    Pillow may warn about the file: see :func:`quiet_pillow`.

    Args:
        path: The image file.
        height: As stated in the annotation file.
        width: As stated in the annotation file.

    Raises:
        DataError: If the file is missing, is not a complete image, or does not have the stated size.
    """
    with _explained(
        path,
        f"the image, {width}x{height} pixels,",
        missing="add the file, or remove the image from the annotation file",
        broken="replace the file, or remove the image from the annotation file",
    ):
        pixels, stored = _read_pixels(path, (height, width))
    if pixels is None or pixels.shape[:2] != (height, width):
        is_size = f"{stored[1]}x{stored[0]}" if pixels is None else f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise DataError(
            f"{quote_path(path)}: the image is {is_size} pixels (width x height), its annotation says {width}x{height}",
            fix="correct width and height in the annotation file, or replace the image",
        )
    return pixels


def decode_upright(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file of any size as RGB, uint8 [height, width, 3], upright as its EXIF data says.

    Modes, pages and broken EXIF data are as in :func:`decode_image`.

    Raises:
        DataError: If the file is missing, is not a whole image, or has more pixels than Pillow opens.
    """
    with _explained(path, "the image", missing="name an image file", broken="name a whole image file"):
        pixels, _ = _read_pixels(path, None)
    assert pixels is not None  # no size was stated
    return pixels


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an image in memory as RGB, uint8 [height, width, 3], as it lies there: EXIF data turn nothing.

    Raises:
        DataError: If its file turns out to be damaged, or its values have no known scale.
    """
    name = f"the PIL image of mode {image.mode}, {image.width}x{image.height} pixels"
    try:
        return _to_rgb(image)
    except MemoryError as error:
        raise DataError(f"{name}: does not fit into memory", fix="free memory, or make the image smaller") from error
    except _DAMAGE as error:
        raise DataError(f"{name}: cannot be read: {quote_error(error)}", fix="give a whole image in RGB") from error


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress Pillow's warnings: large EXIF data, a truncated file, more than 89 megapixels.

    Such a file either decodes or raises an error, so the warnings add nothing. Python's warning filters belong to the
    whole process: use this in the thread that waits for the decoding threads, not in each of them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def index_content(
    records: Sequence[ImageRecord], index_file: Path | None, on_progress: Progress | None = None
) -> dict[Path, str]:
    """Return a hash of the decoded pixels of every image, by path; every image is decoded once.

    Args:
        records: The images.
        index_file: File that stores the hashes. An image is not decoded again while its path, file size, modification
            time and stated size stay the same. A damaged index is built again.
        on_progress: Called after each decoded image.

    Raises:
        DataError: If an image cannot be decoded as stated, or the index cannot be written.
    """
    known = _read_index(index_file)
    keys = [file_identity(record) for record in records]
    new = [(key, record) for key, record in zip(keys, records, strict=True) if key not in known]
    failures: list[DataError] = []
    results = map_in_threads(_hash_or_error, [record for _, record in new], bytes_each=decoding_bytes(records))
    try:
        with quiet_pillow():
            for done, ((key, _), result) in enumerate(zip(new, results, strict=True), start=1):
                if isinstance(result, DataError):
                    failures.append(result)
                else:
                    known[key] = result
                if on_progress:
                    on_progress(done, len(new))
    finally:  # when interrupted, keep the hashes computed so far
        if index_file is not None and new:
            _write_index(index_file, {key: known[key] for key in keys if key in known})
    if len(failures) > 1:
        message = f"{len(failures)} of {len(records)} images cannot be used"
        fix = "replace these files, or remove the images from the annotation file"
        raise DataError(message, first=str(failures[0]).splitlines()[0], fix=fix) from failures[0]
    if failures:
        raise failures[0]
    return {record.path: known[key] for key, record in zip(keys, records, strict=True)}


def file_identity(record: ImageRecord) -> str:
    """Return a text that changes when the image file or its stated size changes.

    Raises:
        DataError: If the file no longer exists.
    """
    try:
        stat = record.path.stat()
    except OSError as error:
        raise DataError(
            f"{quote_path(record.path)}: the image cannot be read: {quote_error(error)}",
            fix="add the file, or remove the image from the annotation file",
        ) from error
    return f"{record.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{record.width}x{record.height}"


def decoding_bytes(records: Sequence[ImageRecord]) -> int:
    """Return the memory in bytes that the largest image takes while it is decoded."""
    return DECODING_BYTES * max((record.height * record.width for record in records), default=0)


@contextmanager
def _explained(path: Path, what: str, *, missing: str, broken: str) -> Iterator[None]:
    """Turn what is raised for a file that cannot be read into a DataError; ``missing`` and ``broken`` say its cure."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{quote_path(path)}: there is no such image", fix=missing) from error
    except MemoryError as error:
        raise DataError(
            f"{quote_path(path)}: {what} does not fit into memory", fix="free memory, or make the image smaller"
        ) from error
    except _DAMAGE as error:
        raise DataError(f"{quote_path(path)}: the image cannot be read: {quote_error(error)}", fix=broken) from error


def _read_pixels(path: Path, stated: tuple[int, int] | None) -> tuple[NDArray[np.uint8] | None, tuple[int, int]]:
    """The pixels, turned so that they have the stated (height, width), and that of the image as stored.

    They are None if they have another size either way. Without a stated size they are upright.
    """
    check_regular_file(path)
    if path.stat().st_size > _MAX_FILE:
        raise ValueError(f"the file has more than {_MAX_FILE} bytes")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # older versions of Pillow lack some
    try:
        image = Image.open(path, formats=formats)
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot identify it as any of {', '.join(formats)}") from error
    with image:
        stored = (image.height, image.width)
        if stated not in (None, stored, _upright(image)):
            return None, stored
        if image.format in ("JPEG", "MPO") and _count_scans(path) > _MAX_SCANS:
            raise ValueError(f"more than {_MAX_SCANS} scans, which would take hours")
        image.load()  # a TIFF is upright after that, others are not
        turn = _TURNS.get(_orientation(image)) if stated in (None, _upright(image)) else None
        return _to_rgb(image if turn is None else image.transpose(turn)), stored


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 (upright) if there is none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _upright(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) of ``image`` after the EXIF rotation; orientations 2, 3 and 4 keep the size."""
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def _count_scans(path: Path) -> int:
    """Count the start-of-scan markers of a JPEG, 0xFF 0xDA, which never occur within a scan."""
    count, last = 0, b""
    with path.open("rb") as file:
        while part := file.read(2**20):
            count += (last + part).count(b"\xff\xda")
            last = part[-1:]
    return count


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose scale is unknown")
    if image.mode.startswith("I"):
        return _deep_grey_to_rgb(np.asarray(image))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about a direct conversion
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey_to_rgb(grey: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return 16-bit grey values, in any of Pillow's types, as RGB, on the same scale for every image."""
    if grey.min() < 0 or grey.max() >= 2**16:
        raise ValueError("grey values outside 0..65535")
    return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)


def _hash_or_error(record: ImageRecord) -> str | DataError:
    try:
        pixels = decode_image(record.path, record.height, record.width)
    except DataError as error:
        return error
    digest = blake2b(repr(pixels.shape).encode(), digest_size=_HASH_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _read_index(index_file: Path | None) -> dict[str, str]:
    if index_file is None:
        return {}
    try:
        index = read_json(index_file)
    except (OSError, ValueError, MemoryError):  # missing or damaged: decode again
        return {}
    if not isinstance(index, dict):
        return {}
    return {key: value for key, value in index.items() if isinstance(value, str) and _HASH.fullmatch(value)}


def _write_index(index_file: Path, index: dict[str, str]) -> None:
    temporary = index_file.with_name(f"{index_file.name}.{os.getpid()}.tmp")
    try:
        index_file.parent.mkdir(parents=True, exist_ok=True)
        write_anew(temporary, json.dumps(index, indent=0).encode())
        temporary.replace(index_file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataError(
            f"{index_file}: the index of the images cannot be written: {quote_error(error)}",
            fix="free space on the disk, or make the folder writable",
        ) from error
