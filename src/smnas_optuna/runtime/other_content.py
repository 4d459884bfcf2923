"""Files that hold something else than what their names say: what it is, and what to do."""

from __future__ import annotations

from pathlib import Path

from smnas_optuna.real_files import first_bytes

_HEAD = 300  # bytes, in which all of these begin
_UNPACK = "unpack it"
_CONVERT = "write it as PNG or JPEG"
_FETCH = "copy or download it again, or leave it out"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the files that it points to: git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex", "fetch the files that it points to: git annex get"),
    (b"<!doctype html", "a web page", f"{_FETCH}: a page was saved in its place"),
    (b"<html", "a web page", f"{_FETCH}: a page was saved in its place"),
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"\x1f\x8b", "packed by gzip", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"\xfd7zXZ\0", "packed by xz", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"%PDF-", "a PDF document", _CONVERT),
    (b"\x93NUMPY", "an array of NumPy", _CONVERT),
    (b"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (b"v/1\x01", "an OpenEXR image", _CONVERT),
    (b"SIMPLE  =", "a FITS image", _CONVERT),
    (b"<svg", "an SVG drawing", _CONVERT),
    (b"8BPS", "a Photoshop document", _CONVERT),
)
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_DICOM_AT = 128


def other_content(path: Path) -> tuple[str, str] | None:
    """Return what a file is instead, as "it is ...", and what to do; None if it is nothing that is known."""
    try:
        head = first_bytes(path, _HEAD)
    except OSError:
        return None
    if not head:
        return "it is an empty file", _FETCH
    if not head.strip(b"\0"):
        return "it has only zero bytes", _FETCH
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what, remedy in _STARTS:
        if head.startswith(start) or text[: len(start)].lower() == start:
            return f"it is {what}", remedy
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        return "it is a HEIC image", _CONVERT
    if head[_DICOM_AT : _DICOM_AT + 4] == b"DICM":
        return "it is a DICOM image", _CONVERT
    return None
