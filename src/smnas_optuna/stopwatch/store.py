"""Files that clients have sent, found by the hash of their content alone."""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from smnas_optuna.allowance import MIB

MAX_FILE_BYTES = 2**31 - 1
"""Bytes of the largest file, a limit of ONNX; see :mod:`smnas_optuna.runtime.detector_file`."""
MAX_BYTES = 8 * 2**30
"""Bytes of all files together, by default; the least recently used make room for others."""
_PART = MIB


class TooLargeError(Exception):
    """A file that does not fit into the store, however many others make room."""


class WrongContentError(Exception):
    """A file that ended early, or that has another hash than was said."""


class Store:
    """A temporary folder of files by the SHA-256 of their content, hexadecimal. It is removed at the end.

    The names of the files on the disk are numbers, so nothing that a client says becomes part of a path.

    Args:
        max_bytes: Most bytes of all files together.
        max_file_bytes: Most bytes of one.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="smnas-stopwatch-", ignore_cleanup_errors=True)
        self._sizes: OrderedDict[str, int] = OrderedDict()  # the least recently used first
        self._paths: dict[str, Path] = {}
        self._count = 0
        self.max_bytes = max_bytes
        self.max_file_bytes = min(max_file_bytes, max_bytes)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self._sizes.values())

    def path(self, digest: str) -> Path:
        """Return where the file lies, which is now the most recently used.

        Raises:
            KeyError: If there is none with this hash.
        """
        self._sizes.move_to_end(digest)
        return self._paths[digest]

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return the hashes without a file, each once."""
        return [digest for digest in dict.fromkeys(digests) if digest not in self._sizes]

    def add(self, digest: str, size: int, read: Callable[[int], bytes]) -> None:
        """Store a file; nothing is kept if it is refused.

        Args:
            digest: The SHA-256 that it must have.
            size: Its size in bytes.
            read: Returns up to as many bytes as asked for, none at the end.

        Raises:
            TooLargeError: If it is too large.
            WrongContentError: If it ends before ``size`` bytes, or has another hash.
            OSError: If it cannot be written.
        """
        if size > self.max_file_bytes:
            raise TooLargeError
        while self.num_bytes + size > self.max_bytes:
            self._drop(next(iter(self._sizes)))
        self._count += 1
        path, found, left = Path(self._folder.name) / str(self._count), hashlib.sha256(), size
        try:
            with path.open("xb") as file:
                while left and (part := read(min(left, _PART))):
                    found.update(part)
                    file.write(part)
                    left -= len(part)
            if left or found.hexdigest() != digest:
                raise WrongContentError
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        if digest in self._sizes:
            self._drop(digest)
        self._sizes[digest], self._paths[digest] = size, path

    def _drop(self, digest: str) -> None:
        del self._sizes[digest]
        self._paths.pop(digest).unlink(missing_ok=True)
