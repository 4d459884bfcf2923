"""Rows of an annotation file, and the error for those that break a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from smnas_optuna.errors import DataError

Row = dict[str, Any]
Item = TypeVar("Item")


def refuse(
    path: Path, offenders: Sequence[Item], describe: Callable[[Item], str], rule: str, *, total: int, fix: str
) -> None:
    """Raise a DataError if there are ``offenders``: ``path: 2 of 7 annotations ...``, and the first one.

    Args:
        path: The annotation file.
        offenders: Items that break the rule; there may be millions.
        describe: Returns one line about one of them.
        rule: The noun and the mistake: ``"annotations share an id"``.
        total: Number of items checked.
        fix: Advice for the user.
    """
    if offenders:
        raise DataError(f"{path}: {len(offenders)} of {total} {rule}", first=describe(offenders[0]), fix=fix)
