"""Images that are named one by one, by folder or by pattern, and the pictures that are made of them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.paths import at_home
from smnas_optuna.quote import quote, quote_path
from smnas_optuna.runtime.image_files import quiet_pillow
from smnas_optuna.runtime.image_tree import IMAGE_SUFFIXES, files_in, is_image

_WITH_FRAMES = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
"""Pillow's names of the formats whose files may have several frames or pages."""
_JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"})
_FIX = (
    "name image files, folders of them, or a pattern in quotes: 'photos/*.jpg'; videos are named themselves, or by "
    "'clips/*.mp4'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An image, and where its picture goes.

    Attributes:
        path: The image file.
        picture: Path of its picture inside the output folder. It is the image's path inside the folder that was named,
            or its name, with ``.jpg`` for a JPEG and ``.png`` for all others. No two sources have the same.
    """

    path: Path
    picture: Path


def find_sources(sources: Sequence[str], *, output: Path | None = None) -> list[Source]:
    """Return the images that ``sources`` mean, each once, in the order of ``sources`` and then of their paths.

    Args:
        sources: Each is an image file, whatever its ending; a folder that is searched with all folders and links to
            folders in it but hidden ones; or a pattern with ``*``, ``?`` or ``[...]``, in which ``**`` stands for any
            folders.
        output: Folder for pictures; what is below it is no source of a folder or pattern around it.

    Raises:
        DataError: If one of them means no image, or a picture would take the place of an image.
    """
    inside = None if output is None else output.resolve()
    found: list[Source] = []
    known: set[Path] = set()
    taken: set[str] = set()
    for source in sources:
        root, paths = _meant(source, inside)
        if not paths:
            raise DataError(f"{quote(source)}: there is no image", fix=_FIX)
        for path in paths:
            if (real := path.resolve()) not in known:
                known.add(real)
                found.append(Source(path=path, picture=_picture(path.relative_to(root), taken)))
    if output is not None:
        _check_kept(found, known, output)
    return found


def has_more_frames(path: Path) -> bool:
    """Return whether an image that can be read is animated, or has several pages."""
    # Pillow raises all kinds of errors for what is damaged after the first frame.
    Image.init()
    formats = [name for name in _WITH_FRAMES if name in Image.OPEN]  # some versions of Pillow have no AVIF
    with quiet_pillow(), suppress(Exception), Image.open(path, formats=formats) as image:
        return bool(getattr(image, "is_animated", False))
    return False


def _meant(source: str, output: Path | None) -> tuple[Path, list[Path]]:
    """Return the folder that names of pictures are relative to, and the images that ``source`` means."""
    path = at_home(source)
    if _is_there(path):
        return (path, sorted(_images_in(path, output))) if path.is_dir() else (path.parent, [path])
    if not glob.has_magic(source):
        raise DataError(f"{quote_path(path)}: there is no such file or folder", fix=_FIX)
    matches = map(Path, glob.iglob(str(path), recursive=True))  # noqa: PTH207  # Path.glob refuses `a**b`
    found = (each for each in matches if each.suffix.lower() in IMAGE_SUFFIXES and each.is_file())
    return _fixed_part(path), sorted(each for each in found if is_outside(each, output, path))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def _images_in(folder: Path, output: Path | None) -> Iterator[Path]:
    for path in map(Path, files_in(folder)):
        if is_image(path) and path.is_file() and is_outside(path, output, folder):
            yield path


def is_outside(path: Path, output: Path | None, named: Path) -> bool:
    """Return whether ``path`` is not among earlier results; all are, of an output folder that is named itself."""
    if output is None or named.resolve().is_relative_to(output):
        return True
    return not path.resolve().is_relative_to(output)


def _fixed_part(pattern: Path) -> Path:
    """Return the folder before the first part of ``pattern`` that is one."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])


def _picture(name: Path, taken: set[str]) -> Path:
    """Return a path for the picture of ``name`` that is not in ``taken`` yet, whatever the case of its letters."""
    ending = ".jpg" if name.suffix.lower() in _JPEG else ".png"
    number, stem = 1, name.stem
    while True:
        picture = name.with_name(f"{stem}{'' if number == 1 else f'-{number}'}{ending}")
        if (key := str(picture).casefold()) not in taken:
            taken.add(key)
            return picture
        number += 1


def _check_kept(found: Sequence[Source], images: set[Path], output: Path) -> None:
    """Check that no picture has the path of an image.

    Raises:
        DataError: If one has.
    """
    lost = [each for each in found if (output / each.picture).resolve() in images]
    if lost:
        raise DataError(
            f"{quote_path(output)}: the pictures of {len(lost)} of {len(found)} images would take the place of images",
            first=quote_path(output / lost[0].picture),
            fix="name another folder: --output DIR",
        )
