"""Image files and PIL images -> RGB pixels."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.real_files import check_regular_file, first_bytes
from smnas_optuna.runtime.deep_colour import LowerBytes, lower_bytes_of, read_lower_bytes, turned_values, upper_bits
from smnas_optuna.runtime.jpeg_file import MAX_SCANS, count_scans
from smnas_optuna.runtime.other_content import other_content
from smnas_optuna.runtime.pixel_values import highest_values, to_rgb
from smnas_optuna.runtime.png_file import without_side_data

# Formats that cameras, scanners and annotation tools write. Pillow opens more, by content whatever the file's name, and
# for EPS it starts a program, Ghostscript. MPO, which some cameras write, is identified as JPEG.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MAX_FILE = 2**31  # bytes; the largest image (MAX_PIXELS) at 8 uncompressed bytes a pixel has 1.4e9

_TIFF = (b"II*\0", b"MM\0*")
_BANDS = "write it with 1, 3 or 4 bands of 8 or 16 bits"
_BITS, _PLANES, _SEPARATE = 258, 284, 2  # TIFF 6.0: BitsPerSample, PlanarConfiguration, and its value for planes
_QUARTER_TURN = 5  # EXIF orientations from this one on turn an image by a quarter
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # the transpose that makes an image upright, by EXIF orientation

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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: RGB, uint8 [height, width, 3].
        low: Smallest value of the file: with more than 8 bits a channel as it is stored, otherwise that of ``pixels``.
        high: Largest value, likewise.
        most: Value that 1 in 100 exceeds at most, if it has more than 8 bits a channel; otherwise ``high``.
        nearly_all: Value that 1 in 10,000 exceeds at most, likewise.
        deep: True if it has more than 8 bits a channel.
        colour: True if it is ``deep`` and has colours, or grey with opacity.
        orientation: EXIF orientation, 1..8; 1 is upright.
        turned: True if the pixels are turned as the orientation says.
        several: True if the file has several pages or frames, of which this is the first.
    """

    pixels: NDArray[np.uint8]
    low: int
    high: int
    most: int
    nearly_all: int
    deep: bool
    colour: bool
    orientation: int
    turned: bool
    several: bool


def decode_upright(path: Path, *, grey_bits: int = 16) -> NDArray[np.uint8]:
    """The pixels of an image file of any size as RGB, uint8 [height, width, 3], upright as its EXIF data says.

    Modes, pages and broken EXIF data are as in :func:`read_image`.

    Args:
        path: The image file.
        grey_bits: Bits of the values of images with more than 8 bits a channel, 8..16: the upper 8 of these are kept.

    Raises:
        DataError: If the file is missing, is not a whole image, or has more pixels than Pillow opens.
    """
    with explained_damage(path, "the image", missing="name an image file", broken="name a whole image file"):
        decoded, _ = read_image(path, None, grey_bits=grey_bits, turn=True)
    assert decoded is not None  # no size was stated
    return decoded.pixels


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file in pixels, upright as its EXIF data says; no pixel is decoded.

    Pillow may warn about the file: see :func:`quiet_pillow`.

    Raises:
        DataError: If the file is missing, or is no image.
    """
    with explained_damage(path, "the image", missing="add the file", broken="replace the file, or remove it"):
        check_regular_file(path)
        try:
            return _upright_size(path)
        except _DAMAGE:
            plain = without_side_data(path)
            if plain is None:
                raise
            return _upright_size(io.BytesIO(plain))


def _upright_size(file: Path | BinaryIO) -> tuple[int, int]:
    with _opened_image(file) as image:
        # a PNG's own getexif decodes the pixels, to look for what comes after them
        turned = _orientation(image, Image.Image.getexif) >= _QUARTER_TURN
        height, width = image.height, image.width
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # newer versions of Pillow turn its size when they open it
            height, width = image.tag_v2[TiffImagePlugin.IMAGELENGTH], image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
        return (width, height) if turned else (height, width)


def rgb_of(image: Image.Image, *, grey_bits: int = 16) -> NDArray[np.uint8]:
    """The pixels of an image in memory as RGB, uint8 [height, width, 3], as it lies there: EXIF data turn nothing.

    Args:
        image: The image.
        grey_bits: Bits of the values of a grey image with more than 8 bits, 8..16: the upper 8 of these are kept. Of
            colour with more, Pillow has kept the upper 8 of 16 already: give the file itself.

    Raises:
        DataError: If its file turns out to be damaged, or its values have no known scale.
    """
    name = f"the PIL image of mode {image.mode}, {image.width}x{image.height} pixels"
    try:
        return to_rgb(image, grey_bits)
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


@contextmanager
def explained_damage(path: Path, what: str, *, missing: str, broken: str) -> Iterator[None]:
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
        what, remedy = other_content(path) or (quote_error(error), broken)
        raise DataError(f"{quote_path(path)}: the image cannot be read: {what}", fix=remedy) from error


def read_image(
    path: Path, stated: tuple[int, int] | None, *, grey_bits: int, turn: bool
) -> tuple[Decoded | None, tuple[int, int]]:
    """The image, turned so that it has the stated (height, width), and its size as stored.

    It is None if it has another size either way. Without a stated size it is upright. If both have the stated size,
    ``turn`` decides.
    """
    check_regular_file(path)
    if path.stat().st_size > _MAX_FILE:
        raise ValueError(f"the file has more than {_MAX_FILE} bytes")
    try:
        return _read_pixels(path, path, stated, grey_bits=grey_bits, turn=turn)
    except _DAMAGE as error:
        plain = without_side_data(path)
        if plain is None:
            raise
        try:
            return _read_pixels(io.BytesIO(plain), path, stated, grey_bits=grey_bits, turn=turn)
        except _DAMAGE:
            raise error from None


def _read_pixels(
    file: Path | BinaryIO, path: Path, stated: tuple[int, int] | None, *, grey_bits: int, turn: bool
) -> tuple[Decoded | None, tuple[int, int]]:
    """As :func:`read_image`, from ``file``, which is ``path`` or has its content."""
    with _opened_image(file) as image:
        _refuse_planes(image)
        several = _has_several(image)
        lower = lower_bytes_of(image)  # before EXIF data, for which a PNG is decoded
        stored, upright, orientation = (image.height, image.width), _upright(image), _orientation(image)
        if stated not in (None, stored, upright):
            return None, stored
        if image.format in ("JPEG", "MPO") and count_scans(path) > MAX_SCANS:
            raise ValueError(f"more than {MAX_SCANS} scans, which would take hours")
        image.load()  # a TIFF is upright after that, others are not
        left = _orientation(image)
        turned = stated in (None, upright) and (turn or stored != upright)
        turn_by = _TURNS[left] if turned and left != 1 else None
        if lower is None:
            whole = image if turn_by is None else image.transpose(turn_by)
            pixels, deep = to_rgb(whole, grey_bits), image.mode.startswith("I")
            values: NDArray[Any] = np.asarray(image) if deep else pixels
        else:
            deep, values = True, _deep_colour(image, file, lower)
            pixels = upper_bits(turned_values(values, turn_by), grey_bits)
        most, nearly_all, high = highest_values(values) if deep else [int(values.max())] * 3
        decoded = Decoded(
            pixels=pixels,
            low=int(values.min()),
            high=high,
            most=most,
            nearly_all=nearly_all,
            deep=deep,
            colour=lower is not None,
            orientation=orientation,
            turned=orientation != 1 and (turned or left == 1),
            several=several,
        )
        return decoded, stored


def _refuse_planes(image: Image.Image) -> None:
    """Refuse a TIFF whose 16-bit channels lie in planes, which Pillow decodes as 8-bit ones, to noise."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, ())
    if tags.get(_PLANES) == _SEPARATE and isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8:
        raise ValueError(
            "a TIFF with channels of more than 8 bits in separate planes: write it with interleaved channels"
        )


def _opened_image(file: Path | BinaryIO) -> Image.Image:
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # older versions of Pillow lack some
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        if isinstance(file, Path) and first_bytes(file, 4) in _TIFF:
            raise ValueError(f"it is a TIFF of a kind that Pillow does not know: {_BANDS}") from error
        raise ValueError(f"cannot identify it as any of {', '.join(formats)}") from error


def _has_several(image: Image.Image) -> bool:
    """Return whether there are several pages or frames; those of an MPO, which cameras write, belong to the first."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except _DAMAGE:
        return False


def _orientation(
    image: Image.Image, exif_of: Callable[[Image.Image], Image.Exif] = lambda image: image.getexif()
) -> int:
    """Return the EXIF orientation, 1..8; 1 (upright) if there is none."""
    try:
        orientation = exif_of(image).get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _upright(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) of ``image`` after the EXIF rotation; orientations 2, 3 and 4 keep the size."""
    return (image.width, image.height) if _orientation(image) >= _QUARTER_TURN else (image.height, image.width)


def _deep_colour(image: Image.Image, file: Path | BinaryIO, lower: LowerBytes) -> NDArray[np.uint16]:
    """Return uint16 [height, width, 3], as stored, but that a TIFF is upright already, as Pillow has it.

    ``image`` holds the upper bytes; ``file`` is read again for the others.
    """
    values = np.asarray(image.convert("RGB")).astype(np.uint16)
    values <<= 8
    if not isinstance(file, Path):
        file.seek(0)
    with _opened_image(file) as again:
        values |= np.asarray(read_lower_bytes(again, lower).convert("RGB"))
    return values
