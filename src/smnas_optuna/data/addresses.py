"""Addresses that annotation tools write for an image -> the path that they end in.

Label Studio serves uploads (``/data/upload/1/1a2b3c4d-cat.jpg``, ``/storage-data/uploaded/?filepath=upload/1/...``),
local files (``/data/local-files/?d=pets/cat.jpg``) and buckets, whose own address is then in base64
(``/tasks/12/resolve/?fileuri=...``, ``/projects/3/presign/?fileuri=...``). Buckets also sign addresses: what follows
the question mark (``cat.jpg?X-Amz-Signature=...``) is no part of the name.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SERVED = re.compile(
    r"/?(api/)?(data/(upload|local-files)|storage-data/uploaded|(tasks|projects)/[0-9]+/(presign|resolve))(?=[/?])",
    re.IGNORECASE,
)
_NAMED_BY = {"local-files": "d", "uploaded": "filepath", "presign": "fileuri", "resolve": "fileuri"}
_LONGEST = 4_000  # characters of an address that are looked at


def is_url(name: str) -> bool:
    """Return whether ``name`` begins with a scheme, as ``s3://``."""
    return _URL.match(name) is not None


def is_address(name: str) -> bool:
    """Return whether ``name`` is a URL, or the path of something that Label Studio serves."""
    return is_url(name) or _SERVED.match(name) is not None


def path_of(address: str) -> str:
    """Return the path in an address, decoded: after the host, or what its query names."""
    host, _, whole = _URL.sub("", address[:_LONGEST], count=1).partition("/") if is_url(address) else ("", "", address)
    path, _, query = whole.partition("?")
    served = _NAMED_BY.get(path.rstrip("/").rpartition("/")[2].lower())
    named = next((each.partition("=")[2] for each in query.split("&") if each.partition("=")[0] == served), None)
    if named is None:
        return unquote(path or host).replace("\\", "/")
    text = unquote(named)
    if served == "fileuri":
        text = text if is_url(text) else _in_base64(text)
        return path_of(text) if is_url(text) else text
    return text.replace("\\", "/")


def without_query(name: str) -> str:
    """Return ``name`` up to the question mark that a signature follows."""
    return name.partition("?")[0]


def _in_base64(text: str) -> str:
    """Return what ``text`` encodes, padded or not, in either alphabet; itself if it encodes no text."""
    try:
        content = base64.b64decode(
            text.translate({ord("-"): "+", ord("_"): "/"}) + "=" * (-len(text) % 4), validate=True
        )
        return content.decode("utf-8")
    except (binascii.Error, ValueError):
        return text
