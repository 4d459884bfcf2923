"""Text files of a data set -> their text, or a clear error."""

from __future__ import annotations

import math
from pathlib import Path

from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.real_files import read_text

LONGEST = 2**24
"""Bytes of the largest text file; 10,000 boxes of an image, each with an outline of 100 corners, take as many."""


def read_data_text(path: Path) -> str:
    """Return the text in ``path``, in UTF-8 or with a byte-order mark.

    Raises:
        DataError: If it cannot be read, holds no text, or has more than ``LONGEST`` bytes.
    """
    try:
        return read_text(path, LONGEST)
    except OSError as error:
        raise DataError(
            f"{quote_path(path)}: the file cannot be read: {quote_error(error)}",
            fix="make it a readable file with text in UTF-8",
        ) from error


def lines_of(path: Path) -> list[str]:
    """Return the lines of ``path`` that are not blank, without blanks around them.

    Raises:
        DataError: As :func:`read_data_text`.
    """
    return [text for line in read_data_text(path).splitlines() if (text := line.strip())]


def finite_number(text: str) -> float | None:
    """Return the number that ``text`` is; None if it is none, infinite or NaN."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None
