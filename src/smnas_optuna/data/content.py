"""Content of image files: a hash of the pixels and what decoding tells besides, kept in an index file."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from smnas_optuna.data.coco import ImageRecord
from smnas_optuna.data.failures import refuse_failures
from smnas_optuna.data.images import FIXES, Progress, decode, decoding_bytes
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.look import look_of
from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.runtime.image_files import quiet_pillow

KEEP_SECONDS = 30.0
"""Time between two writings of the index while images are decoded: what a kill or a power cut loses at most."""
_HASH_BYTES = 16
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # whoever may only read a study can check its data
_ENTRY = re.compile(
    f"([0-9a-f]{{{2 * _HASH_BYTES}}}) ([0-9]{{1,5}}) ([0-9]{{1,5}}) ([0-2]) ([1-8]) ([01])"
    "(?: most ([0-9]{1,5}) ([0-9]{1,5}))?( several)?(?: ([0-9a-f]{32}))?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Content of an image file; see :class:`smnas_optuna.runtime.image_files.Decoded`.

    Attributes:
        digest: Hash of the RGB pixels, hexadecimal.
        low: Smallest value.
        high: Largest value.
        most: Value that 1 in 100 exceeds at most, if it is ``deep``; otherwise ``high``.
        nearly_all: Value that 1 in 10,000 exceeds at most, likewise.
        deep: True if it has more than 8 bits a channel.
        colour: True if it is ``deep`` and has colours, or grey with opacity.
        orientation: EXIF orientation, 1..8; 1 is upright.
        turned: True if the pixels are turned as the orientation says.
        several: True if the file has several pages or frames; False too in the index of an older version.
        look: What it looks like, see :mod:`smnas_optuna.data.look`; None in the index of an older version.
    """

    digest: str
    low: int
    high: int
    most: int
    nearly_all: int
    deep: bool
    orientation: int
    turned: bool
    colour: bool = False
    several: bool = False
    look: int | None = None

    @property
    def one_colour(self) -> bool:
        """True if all pixels are the same; with the index of an older version, only if they are grey as well."""
        return self.low == self.high or self.look == 0

    def as_text(self) -> str:
        """Return the entry of an index file."""
        text = f"{self.digest} {self.low} {self.high} {self.deep + self.colour} {self.orientation} {self.turned:d}"
        text += f" most {self.most} {self.nearly_all}" if self.deep else ""
        text += " several" if self.several else ""
        return text if self.look is None else f"{text} {self.look:032x}"

    @classmethod
    def from_text(cls, text: object) -> Content | None:
        """Return the content that ``text`` is the entry of; None if it is none, as in the index of an older version."""
        found = _ENTRY.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return None
        digest, low, high, deep, orientation, turned, most, nearly_all, several, look = found.groups()
        if (deep != "0") != (most is not None):
            return None
        return cls(
            digest=digest,
            low=int(low),
            high=int(high),
            most=int(most or high),
            nearly_all=int(nearly_all or high),
            deep=deep != "0",
            colour=deep == "2",
            orientation=int(orientation),
            turned=turned == "1",
            several=several is not None,
            look=None if look is None else int(look, 16),
        )


@dataclass(kw_only=True, slots=True)
class ContentIndex:
    """Contents of image files, each decoded once; a file keeps them for the next start.

    Attributes:
        file: The index file. An image is not decoded again while its path, file size, times of modification and of
            change, and stated size stay the same. A damaged index is built again. None keeps nothing.
        on_progress: Called after each decoded image.
    """

    file: Path | None = None
    on_progress: Progress | None = None
    _known: dict[str, Content] | None = None
    _used: dict[str, Content] = field(default_factory=dict)

    def read(self, records: Sequence[ImageRecord], *, with_looks: bool = False) -> list[Content]:
        """Return the contents of ``records``; what is not known is decoded, with ``with_looks`` also unknown looks.

        Raises:
            DataError: If an image cannot be decoded as stated, or the disk does not take the index.
        """
        if self._known is None:
            self._known = _read_index(self.file)
        known, keys = self._known, [file_identity(record, exactly=True) for record in records]
        new = [
            (key, record)
            for key, record in zip(keys, records, strict=True)
            if key not in known or (with_looks and known[key].look is None)
        ]
        failures: list[DataError] = []
        kept = time.monotonic()
        results = map_in_threads(_content_or_error, [record for _, record in new], bytes_each=decoding_bytes(records))
        try:
            with quiet_pillow():
                for done, ((key, _), result) in enumerate(zip(new, results, strict=True), start=1):
                    if isinstance(result, DataError):
                        failures.append(result)
                    else:
                        known[key] = result
                    if time.monotonic() - kept > KEEP_SECONDS:
                        self._keep(keys)
                        kept = time.monotonic()
                    if self.on_progress:
                        self.on_progress(done, len(new))
        finally:  # when interrupted, keep the contents read so far
            if new:
                self._keep(keys)
            else:
                self._used |= {key: known[key] for key in keys}
        fix = "replace these files, or remove the images from the annotation file"
        refuse_failures(failures, len(records), fix=fix, of_one=FIXES)
        return [known[key] for key in keys]

    def _keep(self, keys: Sequence[str]) -> None:
        """Write what is known of ``keys``, and of what was read before, into the file."""
        assert self._known is not None
        self._used |= {key: self._known[key] for key in keys if key in self._known}
        if self.file is not None:
            _write_index(self.file, self._used)


def file_identity(record: ImageRecord, *, exactly: bool = False) -> str:
    """Return a text that changes when the image file, its stated size or the way in which it is decoded changes.

    Args:
        record: The image.
        exactly: Notice also another content of the same size and time of modification, by the time of change; see
            :func:`smnas_optuna.data.checked_file.identity_of`.

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
    way = ("" if record.grey_bits == 16 else f"|{record.grey_bits} bits") + ("" if record.turned else "|not turned")
    times = f"{stat.st_mtime_ns}|{stat.st_ctime_ns}" if exactly else f"{stat.st_mtime_ns}"
    return f"{_resolved(record.path)}|{stat.st_size}|{times}|{record.width}x{record.height}{way}"


def _resolved(path: Path) -> Path:
    """Return ``path`` without symbolic links; a folder of many images is resolved once."""
    return path.resolve() if path.is_symlink() else _resolved_folder(path.parent) / path.name


@lru_cache(maxsize=1024)
def _resolved_folder(folder: Path) -> Path:
    return folder.resolve()


def _content_or_error(record: ImageRecord) -> Content | DataError:
    try:
        decoded = decode(record)
    except DataError as error:
        return error
    digest = blake2b(repr(decoded.pixels.shape).encode(), digest_size=_HASH_BYTES)
    digest.update(np.ascontiguousarray(decoded.pixels).data)
    return Content(
        digest=digest.hexdigest(),
        low=decoded.low,
        high=decoded.high,
        most=decoded.most,
        nearly_all=decoded.nearly_all,
        deep=decoded.deep,
        colour=decoded.colour,
        orientation=decoded.orientation,
        turned=decoded.turned,
        several=decoded.several,
        look=look_of(decoded.pixels),
    )


def _read_index(index_file: Path | None) -> dict[str, Content]:
    if index_file is None:
        return {}
    try:
        index = read_json(index_file)
    except (OSError, ValueError, MemoryError):  # missing or damaged: decode again
        return {}
    if not isinstance(index, dict):
        return {}
    return {key: content for key, text in index.items() if (content := Content.from_text(text)) is not None}


def _write_index(index_file: Path, index: dict[str, Content]) -> None:
    temporary = index_file.with_name(f"{index_file.name}.{os.getpid()}.tmp")
    try:
        index_file.parent.mkdir(parents=True, exist_ok=True)
        entries = {key: content.as_text() for key, content in index.items()}
        temporary.write_text(json.dumps(entries, indent=0), encoding="utf-8")
        temporary.replace(index_file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        if error.errno in _READ_ONLY:
            return
        raise DataError(
            f"{index_file}: the index of the images cannot be written: {quote_error(error)}",
            fix="free space on the disk, or make the folder writable",
        ) from error
