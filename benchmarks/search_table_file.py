"""The table of trainings that ``search_table.py`` writes: its columns, and its rows, read also while it is written."""

from __future__ import annotations

import csv
from pathlib import Path

FOLDER = Path("benchmarks/search_table")
"""Folder of the table, with the ``study.toml`` that it was trained with."""
TABLE = FOLDER / "table.csv"
RUNGS = (2, 4, 8)
"""Epochs after which AP is measured; the last is the recipe's."""


def ap_column(epoch: int) -> str:
    """Name of the column with AP, in [0, 1], after ``epoch`` epochs."""
    return f"ap_epoch{epoch}"


COLUMNS = (
    *("arch", "seed", "gate_ratio", "latency_ratio", *map(ap_column, RUNGS)),
    *("num_params", "multiply_adds", "seconds"),
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table, without a last one that is not complete; none if there is no such file."""
    if not path.exists():
        return []
    return list(csv.DictReader(complete_lines(path).splitlines()))


def complete_lines(path: Path) -> str:
    """The text of a file that is being written, without a last line that lacks its end."""
    text = path.read_text()
    return text[: text.rfind("\n") + 1]
