"""JSON files from untrusted sources: invalid, too deeply nested or too large for the free memory is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from smnas_optuna.allowance import free_memory
from smnas_optuna.quote import quote_error
from smnas_optuna.real_files import check_regular_file

ASCII_LETTER_BYTES, LETTER_BYTES = 3, 9
"""Memory for each byte of a file, at most: the byte itself, 1 in the decoded text and 1 in the string it belongs to; 4
each where a letter may not be ASCII, as one wide letter makes all letters of its string wide."""
VALUE_BYTES = 90
"""Memory for each value and each key of an object besides their letters, at most (measured with CPython 3.11: 82)."""


def read_json(path: Path, free_bytes: Callable[[], int] = free_memory) -> object:
    """Return the content of ``path``. Numbers may be NaN or infinite; of a repeated key, the last value counts.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it is not JSON, nested too deeply, or has a number with thousands of digits.
        MemoryError: If it might not fit into the free memory; the message says how much it needs.
    """
    check_regular_file(path)
    free = free_bytes()
    _refuse_large(path.stat().st_size, free)
    text = path.read_bytes()
    _refuse_large(_parsing_bytes(text), free)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(quote_error(error)) from error


def _refuse_large(needed: int, free: int) -> None:
    if needed > free:
        raise MemoryError(f"it takes about {needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free")


def _parsing_bytes(text: bytes) -> int:
    """Return an upper bound, in bytes, of the memory that parsing ``text`` takes, ``text`` included.

    Every value and key but the outermost value follows a bracket, comma or colon, so that counting these bounds their
    number. The bound is about 15 times the size of a COCO file, which takes 7 times its size. A multiple of the size
    alone would have to be 50, which nested lists reach (``[[[]]]``), and would refuse COCO files that fit.
    """
    letter_bytes = ASCII_LETTER_BYTES if text.isascii() and rb"\u" not in text else LETTER_BYTES
    return letter_bytes * len(text) + VALUE_BYTES * sum(text.count(sign) for sign in (b"[", b"{", b",", b":"))
