"""File names in an annotation file -> the image files in a folder."""

from __future__ import annotations

import difflib
import errno
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from smnas_optuna.data.addresses import is_url
from smnas_optuna.data.names_together import find_together
from smnas_optuna.data.other_names import UPLOADED, as_uploaded, leads_out, other_writings
from smnas_optuna.data.rows import Row, refuse
from smnas_optuna.quote import quote, quote_error, quote_path
from smnas_optuna.real_files import check_regular_file

_NAMES_COMPARED = 10_000  # of a folder, to find the nearest name

_Listing = Callable[[Path], Mapping[str, Sequence[str]]]
"""Returns the names in a folder, by their :func:`_folded` form, and with ``_UPLOAD`` before by that of an upload."""
_UPLOAD = "/"  # in no name of a file


def find_images(rows: Sequence[Row], source: Path, folder: Path) -> tuple[dict[int, Path], list[str]]:
    """Return the image files by image id, and notes on names that are written otherwise than those of the files.

    A name that no file has is read in the ways of :mod:`smnas_optuna.data.other_names`, and without regard to case and
    to the form of accents, if that is the name of exactly one file. What is left is read in those of
    :mod:`smnas_optuna.data.names_together`.

    An annotation file may be untrusted, so no ``file_name`` may lead out of ``folder``. Symbolic links may: only a user
    of this machine can make them, and images are often kept on another disk.

    Raises:
        DataError: If a name leads out of ``folder``, is a URL or that of no regular file, or names the file of another
            row.
    """
    listing = cache(_listing)
    urls: list[Row] = []
    outside: list[Row] = []
    missing: list[tuple[Row, OSError]] = []
    paths: dict[int, Path] = {}
    ways: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found = find_image(row["file_name"], folder, listing)
        if not isinstance(found, OSError):
            way, paths[row["id"]] = found
            if way is not None:
                ways[way].append(row)
        elif is_url(row["file_name"]):
            urls.append(row)
        elif leads_out(row["file_name"]):
            outside.append(row)
        else:
            missing.append((row, found))
    unread = [*urls, *outside, *(row for row, _ in missing)]
    together = find_together([row["file_name"] for row in unread], folder, paths.values())
    if together is not None:
        way, files = together
        paths |= {row["id"]: file for row, file in zip(unread, files, strict=True)}
        ways[way] += unread
        urls, outside, missing = [], [], []
    _refuse(urls, outside, missing, source, folder, rows=rows, listing=listing)
    _refuse_doubles(rows, paths, source)
    return paths, [_note(way, found, paths, folder, total=len(rows)) for way, found in ways.items()]


def num_found(names: Sequence[str], folder: Path) -> int:
    """Return how many of ``names``, as an annotation file has them, are images in ``folder``."""
    listing = cache(_listing)
    return sum(not isinstance(find_image(name, folder, listing), OSError) for name in names)


def find_image(name: str, folder: Path, listing: _Listing) -> tuple[str | None, Path] | OSError:
    """Return the file in ``folder`` that ``name`` means, and the way in which it is written otherwise, if it is."""
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    path = PurePosixPath(name)
    if not is_url(name) and not path.is_absolute() and ".." not in path.parts:
        try:
            check_regular_file(folder / name)
            return None, folder / name
        except OSError as failure:
            error = failure
    return _find(folder, name, listing) or error


def _find(folder: Path, name: str, listing: _Listing) -> tuple[str, Path] | None:
    for way, other in other_writings(name, folder):
        path = folder
        for part in PurePosixPath(other).parts:
            names = listing(path).get(_folded(part), ())
            if not names and way == UPLOADED:
                names = listing(path).get(_UPLOAD + _folded(as_uploaded(part)), ())
            if part in names:
                path /= part
            elif len(names) == 1:
                path /= names[0]
            else:
                break
        else:
            try:
                check_regular_file(path)
            except OSError:
                continue
            return way, path
    return None


def _listing(folder: Path) -> Mapping[str, Sequence[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    try:
        for entry in folder.iterdir():
            names[_folded(entry.name)].append(entry.name)
            names[_UPLOAD + _folded(as_uploaded(entry.name))].append(entry.name)
    except (OSError, ValueError):
        return {}
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _note(way: str, rows: Sequence[Row], paths: Mapping[int, Path], folder: Path, *, total: int) -> str:
    row = rows[0]
    read_as = quote_path(paths[row["id"]].relative_to(folder))
    which = f"{len(rows)} of {total} images, first image {row['id']}"
    return f"{which}, have {way} in file_name: {quote(row['file_name'])} is read as {read_as}"


def _refuse(
    urls: Sequence[Row],
    outside: Sequence[Row],
    missing: Sequence[tuple[Row, OSError]],
    source: Path,
    folder: Path,
    *,
    rows: Sequence[Row],
    listing: _Listing,
) -> None:
    def describe(row: Row) -> str:
        return f"image {row['id']}, file_name {quote(row['file_name'])}"

    def describe_missing(item: tuple[Row, OSError]) -> str:
        row, error = item
        return f"image {row['id']}, {quote_path(folder / row['file_name'])}: {quote_error(error)}"

    fix = f"put the files into {quote_path(folder)}, and write their paths relative to it as file_name"
    refuse(source, urls, describe, "images have a URL as file_name", total=len(rows), fix=fix)
    fix = f"give file_name relative to {quote_path(folder)}, without '..'"
    refuse(source, outside, describe, "images lie outside the image folder", total=len(rows), fix=fix)
    fix = "put the files there, or set images (or val_images, test_images) in [data] of study.toml to their folder"
    if missing:
        fix += _hint(folder, missing[0][0]["file_name"], listing)
    refuse(source, missing, describe_missing, "images are missing or not regular files", total=len(rows), fix=fix)


def _hint(folder: Path, name: str, listing: _Listing) -> str:
    """Return what else is there, as the end of an advice; empty if there is nothing like it."""
    slashed = PurePosixPath(name.replace("\\", "/"))
    names = [each for key, some in listing(folder).items() if not key.startswith(_UPLOAD) for each in some]
    if not names:
        return f"; {quote_path(folder)} is {'an empty folder' if folder.is_dir() else 'no folder'}"
    if slashed.name in names and slashed.name != name:
        return f"; {quote_path(folder / slashed.name)} is there: leave the folders out of file_name"
    if len(slashed.parts) > 1 and _folded(slashed.parts[0]) in listing(folder.parent):
        return f"; file_name is relative to {quote_path(folder)}, not to {quote_path(folder.parent)}"
    near = [each for each in names if PurePosixPath(each).stem == slashed.stem] or difflib.get_close_matches(
        slashed.name[:300], names[:_NAMES_COMPARED], n=1
    )
    return f"; the nearest name there is {quote(near[0])}" if near else ""


def _refuse_doubles(rows: Sequence[Row], paths: Mapping[int, Path], source: Path) -> None:
    counts = Counter(paths.values())
    first: dict[Path, Row] = {}
    doubles = [row for row in rows if first.setdefault(paths[row["id"]], row) is not row]
    if not doubles:
        return

    def describe(row: Row) -> str:
        path = paths[row["id"]]
        named = f"image {row['id']}, file_name {quote(row['file_name'])}"
        return f"{named}, is image {first[path]['id']} too; {counts[path]} rows name that file"

    fix = "write one row for each file, with all its boxes; files of one name in several folders need their folders"
    refuse(source, doubles, describe, "image rows name a file that another row names", total=len(rows), fix=fix)
