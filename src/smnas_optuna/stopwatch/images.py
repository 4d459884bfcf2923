"""The images that a measurement cycles through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_path
from smnas_optuna.runtime.image_tree import is_image
from smnas_optuna.runtime.picture import pixels_of
from smnas_optuna.stopwatch.measure import Pixels

MAX_IMAGES = 32
"""Images that are timed, of those in a folder; as many as a study times by default."""


def image_paths(folder: Path) -> list[Path]:
    """Return up to ``MAX_IMAGES`` image files in ``folder``, spread evenly over their names. Hidden ones are left out.

    Raises:
        DataError: If it is no folder, or has none.
    """
    if not folder.is_dir():
        raise DataError(f"{quote_path(folder)}: there is no such folder", fix="name a folder of images with --images")
    paths = sorted(path for path in folder.iterdir() if is_image(path) and path.is_file())
    if not paths:
        raise DataError(
            f"{quote_path(folder)}: there are no images in it",
            fix="name a folder that has image files with --images",
        )
    count = min(MAX_IMAGES, len(paths))
    return [paths[len(paths) * number // count] for number in range(count)]


def read_images(paths: Sequence[Path], grey_bits: int) -> Iterator[Pixels]:
    """Yield the pixels of image files, turned upright as their EXIF data says.

    Args:
        paths: The files.
        grey_bits: Bits of the values of images with more than 8 bits a channel.

    Raises:
        DataError: If one cannot be read.
    """
    for path in paths:
        yield pixels_of(path, grey_bits=grey_bits)
