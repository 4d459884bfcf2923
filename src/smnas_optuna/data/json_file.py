"""JSON files of unknown origin: what is not JSON, nested to exhaustion or larger than the memory is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from smnas_optuna.data.memory import free_memory
from smnas_optuna.data.quote import quote_error
from smnas_optuna.data.regular_file import check_regular_file

# Bytes that CPython 3.11 takes for what each of these begins, measured on files of millions of them, rounded up: an
# object, a list, a further element with its number, an entry of an object, and half a text.
_COST = {b"{": 90, b"[": 110, b",": 40, b":": 50, b'"': 20}


def read_json(path: Path, free_bytes: Callable[[], int] = free_memory) -> object:
    """What ``path`` says. Numbers may be NaN and infinite; of a key that is there twice, the last value counts.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it is not JSON, nested too deeply, or has a number with thousands of digits.
        MemoryError: If it would not fit into the free memory, and says how much it needs.
    """
    check_regular_file(path)
    free = free_bytes()
    _refuse_large(path.stat().st_size, free)
    text = path.read_bytes()
    _refuse_large(_memory_of(text), free)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(quote_error(error)) from error


def _refuse_large(needed: int, free: int) -> None:
    if needed > free:
        raise MemoryError(f"it takes about {needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free")


def _memory_of(text: bytes) -> int:
    """Bytes of memory, roughly and rather too many, that reading ``text`` takes: a file can grow to its 50-fold."""
    highest = np.frombuffer(text, np.uint8).max(initial=0)
    wide = 4 if highest >= 0xF0 or b"\\ud" in text else 2 if highest >= 0xC4 else 1  # bytes that each letter takes
    # as bytes, as one text, and as the texts in it
    return (1 + 2 * wide) * len(text) + sum(cost * text.count(symbol) for symbol, cost in _COST.items())
