"""File names in an annotation file -> the image files in a folder."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from smnas_optuna.data.annotation_file import Row, refuse
from smnas_optuna.quote import quote, quote_error, quote_path
from smnas_optuna.real_files import check_regular_file

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:")
_NAMES_COMPARED = 10_000  # of a folder, to find the nearest name

_Listing = Callable[[Path], Mapping[str, Sequence[str]]]
"""Returns the names in a folder, by their :func:`_folded` form."""

_SEPARATORS, _ENCODED, _SPELLED = "the separators of Windows", "percent-encoded characters", "another spelling"


def find_images(rows: Sequence[Row], source: Path, folder: Path) -> tuple[dict[int, Path], list[str]]:
    """Return the image files by image id, and notes on names that are written otherwise than those of the files.

    A name that no file has is read as one of Windows (with backslashes), as percent-encoded, and without regard to case
    and to the form of accents, if that is the name of exactly one file.

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
        name = row["file_name"]
        if _URL.match(name):
            urls.append(row)
            continue
        if _leads_out(PurePosixPath(name)):
            outside.append(row)
            continue
        paths[row["id"]] = folder / name
        try:
            check_regular_file(folder / name)
        except OSError as error:
            if any(_leads_out(PurePosixPath(other)) or _DRIVE.match(other) for _, other in _other_writings(name)):
                outside.append(row)
            elif (found := _find(folder, name, listing)) is not None:
                way, paths[row["id"]] = found
                ways[way].append(row)
            else:
                missing.append((row, error))
    _refuse(urls, outside, missing, source, folder, rows=rows, listing=listing)
    _refuse_doubles(rows, paths, source)
    return paths, [_note(way, found, paths, folder, total=len(rows)) for way, found in ways.items()]


def _leads_out(name: PurePosixPath) -> bool:
    return name.is_absolute() or ".." in name.parts


def _other_writings(name: str) -> Iterator[tuple[str, str]]:
    """Yield how ``name`` may be meant, and what it would be on this system."""
    if "\\" in name:
        name = name.replace("\\", "/")
        yield _SEPARATORS, name
    if "%" in name:
        yield _ENCODED, unquote(name)


def _find(folder: Path, name: str, listing: _Listing) -> tuple[str, Path] | None:
    """Return the file that ``name`` means, and the way in which it is written otherwise."""
    for way, other in (*_other_writings(name), (_SPELLED, name)):
        path = folder
        for part in PurePosixPath(other).parts:
            names = listing(path).get(_folded(part), ())
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
    names = [each for some in listing(folder).values() for each in some]
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
