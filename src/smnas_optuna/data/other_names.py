"""File names as tools and other machines write them -> what they may be in an image folder here.

Label Studio writes addresses (:mod:`smnas_optuna.data.addresses`), and puts ``images/`` and the number of a project
before a name. It puts eight hexadecimal digits before the name of each upload and each file that it fetches
(``1a2b3c4d-cat.jpg``, ``1a2b3c4d__cat.jpg``; six in older versions).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, unquote_plus

from smnas_optuna.data.addresses import is_address, is_url, path_of, without_query

SEPARATORS = "the separators of Windows"
ENCODED = "percent-encoded characters"
ESCAPED = "characters that are written otherwise"
SPELLED = "another spelling"
ADDRESS = "an address"
ELSEWHERE = "the path of another place"
REPEATED = "folders that are not there"
UPLOADED = "the prefix of an upload"
OTHER_TEXT = "another encoding"

_DRIVE = re.compile(r"[A-Za-z]:")
_PREFIX = re.compile(r"^([0-9a-f]{8}-|[0-9a-f]{6}([0-9a-f]{2})?__)(?=.)")
_NOT_IN_UPLOADS = re.compile(r"[^-\w.]")
_ENCODINGS = ("cp437", "cp1252", "latin-1", "gb18030", "shift_jis")
_LONGEST_NAME = 500
_LONGEST_TAIL = 8  # parts of a path that are looked for


def leads_upwards(name: str) -> bool:
    """Return whether ``name`` has ``..``, as it is written or decoded."""
    slashed = name.replace("\\", "/")
    return any(".." in PurePosixPath(each).parts for each in (slashed, unquote(slashed)))


def leads_out(name: str) -> bool:
    """Return whether ``name`` is absolute or has ``..``, as it is written or on another system."""
    slashed = name.replace("\\", "/")
    return any(_leads_out_here(each) or _DRIVE.match(each) for each in (slashed, unquote(slashed)))


def other_writings(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield how ``name`` may be meant, the surest first, and the path in ``folder`` that it would be then.

    No such path is absolute or has ``..``. A path that leads elsewhere is taken for one in ``folder`` only by two of
    its names or more, or by the prefix of an upload, as one name alone is too little to go by.
    """
    slashed = name.replace("\\", "/")
    plain: list[tuple[str, str]] = []
    if not is_url(name):
        plain += [(SEPARATORS, slashed)] if slashed != name else []
        plain += [(ENCODED, unquote(slashed))] if "%" in name else []
        plain += [(ESCAPED, other) for other in _decoded(slashed) if other != slashed]
        plain += [(ADDRESS, without_query(slashed))] if "?" in slashed else []
        plain.append((SPELLED, name))
        plain += [(OTHER_TEXT, other) for other in _in_other_encodings(slashed)]
    for way, other in (*plain, *_tails(slashed, folder)):
        if other and not _leads_out_here(other):
            yield way, other
    for other in dict.fromkeys(other for _, other in (*plain, *_tails(slashed, folder))):
        *folders, last = other.split("/")
        if _PREFIX.match(last) and not _leads_out_here(other):
            yield UPLOADED, "/".join([*folders, without_prefix(last)])


def without_prefix(name: str) -> str:
    """Return ``name`` without the prefix of an upload, if it has one."""
    return _PREFIX.sub("", name, count=1)


def are_uploads(names: Sequence[str]) -> bool:
    """Return whether all ``names`` have the prefix of an upload, and not all of these look like dates."""
    return all(map(_PREFIX.match, names)) and any(not name[:8].isdecimal() for name in names)


def as_uploaded(name: str) -> str:
    """Return ``name`` as Label Studio keeps it: underscores for blanks, and only letters, digits, ``-`` and ``.``."""
    return _NOT_IN_UPLOADS.sub("", name.strip().replace(" ", "_"))


def _leads_out_here(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _tails(slashed: str, folder: Path) -> list[tuple[str, str]]:
    """Return the ends of a path that may lie in ``folder``, the longest first."""
    if is_address(slashed):
        parts = _parts(path_of(slashed))
        return [(ADDRESS, "/".join(parts[start:])) for start in range(len(parts))]
    parts = _parts(unquote(without_query(slashed)))
    if leads_out(slashed):
        starts = range(len(parts) - (1 if parts and _PREFIX.match(parts[-1]) is None else 0))
        own = [] if leads_upwards(slashed) else [(ELSEWHERE, "/".join(each)) for each in _in_own_folder(parts, folder)]
        return [*((ELSEWHERE, "/".join(parts[start:])) for start in starts), *own]
    return [(REPEATED, "/".join(each)) for each in _without_folders(parts, folder) if each != parts]


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".", "..") and not _DRIVE.fullmatch(part)]
    return parts[-_LONGEST_TAIL:]


def _in_own_folder(parts: Sequence[str], folder: Path) -> Iterator[Sequence[str]]:
    """Yield what follows the name of ``folder`` in ``parts``, the shortest first: the name and another are two."""
    for place in range(len(parts) - 2, -1, -1):
        if folder.name and parts[place].casefold() == folder.name.casefold():
            yield parts[place + 1 :]


def _decoded(name: str) -> Iterator[str]:
    """Yield ``name`` without the blanks around it, and without the escapes of addresses and of HTML."""
    for each in (name, name.strip(" \t\r\n\"'")):
        yield from (each, unquote(each), html.unescape(each), unquote_plus(each))


def _in_other_encodings(name: str) -> Iterator[str]:
    """Yield ``name`` as it is if its bytes are read in the encoding of another system, or were read so before.

    Archives that do not say that their names are in UTF-8 are unpacked in that of the system.
    """
    if name.isascii() or len(name) > _LONGEST_NAME:
        return
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    for encoding in _ENCODINGS:
        for form, (one, other) in product(dict.fromkeys(forms), (("utf-8", encoding), (encoding, "utf-8"))):
            with suppress(UnicodeError):
                yield form.encode(one).decode(other)


def _without_folders(parts: Sequence[str], folder: Path) -> Iterator[Sequence[str]]:
    """Yield ``parts`` without the names of ``folder`` itself before them, and without the number of a project."""
    own = [part.casefold() for part in folder.parts]
    shorter = [parts]
    for count in range(min(len(parts) - 1, len(own)), 0, -1):
        if [part.casefold() for part in parts[:count]] == own[-count:]:
            shorter.append(parts[count:])
    for each in shorter:
        yield each
        if len(each) > 1 and each[-2].isdecimal() and _PREFIX.match(each[-1]):
            yield [*each[:-2], each[-1]]
