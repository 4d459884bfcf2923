"""File names as tools and other machines write them -> what they may be in an image folder here.

Label Studio writes the address of an upload (``/data/upload/1/1a2b3c4d-cat.jpg``), of a local file
(``/data/local-files/?d=pets/cat.jpg``) or of a bucket (``s3://bucket/pets/cat.jpg``), and puts ``images/`` and the
number of a project before a name. It puts eight hexadecimal digits before the name of each upload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

SEPARATORS = "the separators of Windows"
ENCODED = "percent-encoded characters"
SPELLED = "another spelling"
ADDRESS = "an address"
ELSEWHERE = "the path of another place"
REPEATED = "folders that are not there"
UPLOADED = "the prefix of an upload"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:")
_SERVED = re.compile(r"/?data/(upload|local-files)/", re.IGNORECASE)
_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
_NOT_IN_UPLOADS = re.compile(r"[^-\w.]")
_LONGEST_TAIL = 8  # parts of a path that are looked for


def is_url(name: str) -> bool:
    """Return whether ``name`` begins with a scheme, as ``s3://``."""
    return _URL.match(name) is not None


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
        plain.append((SPELLED, name))
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
    if is_url(slashed) or _SERVED.match(slashed):
        parts = _parts(_path_of(slashed))
        return [(ADDRESS, "/".join(parts[start:])) for start in range(len(parts))]
    parts = _parts(unquote(slashed) if "%" in slashed else slashed)
    if leads_out(slashed):
        starts = range(len(parts) - (1 if parts and _PREFIX.match(parts[-1]) is None else 0))
        return [(ELSEWHERE, "/".join(parts[start:])) for start in starts]
    return [(REPEATED, "/".join(each)) for each in _without_folders(parts, folder) if each != parts]


def _path_of(address: str) -> str:
    """Return the path in an address, decoded: after the host, or what ``?d=`` names."""
    path, _, query = _URL.sub("", address, count=1).partition("?")
    named = next((each[2:] for each in query.split("&") if each.startswith("d=")), None)
    if named is None and is_url(address):
        path = path.partition("/")[2]
    return unquote(path if named is None else named).replace("\\", "/")


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".", "..") and not _DRIVE.fullmatch(part)]
    return parts[-_LONGEST_TAIL:]


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
