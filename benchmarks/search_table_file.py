"""The table of trainings that ``search_table.py`` writes: its columns and rows, read also while it is written."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from smnas_optuna.arch import decode
from smnas_optuna.config import StudySettings
from smnas_optuna.search_space import ModularSearchSpace, SearchSpace, StructuralSearchSpace

FOLDER = Path("benchmarks/search_table")
"""Folder of the table, with the ``study.toml`` that it was trained with."""
TABLE = FOLDER / "table.csv"
RUNGS = (2, 4, 8)
"""Epochs after which AP is measured in a table of a structural space; the last is the recipe's."""
AP_COLUMN = "ap_epoch"


def ap_column(epoch: int) -> str:
    """Name of the column with AP, in [0, 1], after ``epoch`` epochs."""
    return f"{AP_COLUMN}{epoch}"


def columns(rungs: Sequence[int]) -> tuple[str, ...]:
    """Columns of a table with APs after ``rungs`` epochs."""
    return (
        *("arch", "seed", "gate_ratio", "latency_ratio", *map(ap_column, rungs)),
        *("num_params", "multiply_adds", "seconds"),
    )


def last_ap(row: Mapping[str, str]) -> float:
    """AP, in [0, 1], after the last epoch."""
    return float([text for name, text in row.items() if name.startswith(AP_COLUMN)][-1])


def parent_of(folder: Path) -> str | None:
    """Parent of the modular space that the table in ``folder`` has; None if it has a structural one."""
    about = folder / "table.json"
    parent: str | None = json.loads(about.read_text()).get("parent") if about.exists() else None
    return parent


def space_of(settings: StudySettings, parent: str | None) -> SearchSpace:
    """The modular space around ``parent``, or the structural space if it is None."""
    if parent is None:
        return StructuralSearchSpace(settings.space.structural)
    return ModularSearchSpace(settings.space.modular, decode(parent), settings.space.structural.input_sizes)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table, without a last one that is not complete; none if there is no such file."""
    if not path.exists():
        return []
    return list(csv.DictReader(complete_lines(path).splitlines()))


def complete_lines(path: Path) -> str:
    """The text of a file that is being written, without a last line that lacks its end."""
    text = path.read_text()
    return text[: text.rfind("\n") + 1]
