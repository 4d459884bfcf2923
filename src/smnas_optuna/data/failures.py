"""Errors of several files -> one error."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from smnas_optuna.errors import DataError, first_line


def refuse_failures(failures: Sequence[DataError], total: int, *, fix: str, of_one: Collection[str]) -> None:
    """Raise one error for images that cannot be used, if there are any.

    Args:
        failures: The error of each of them.
        total: Number of all images.
        fix: Advice for several images whose causes differ, or have no advice but that of ``of_one``.
        of_one: Advice that is worded for a single image.
    """
    if not failures:
        return
    first = failures[0]
    if len(failures) == 1:
        raise first
    same = first.fix not in of_one and all(failure.fix == first.fix for failure in failures)
    message = f"{len(failures)} of {total} images cannot be used"
    raise DataError(message, first=first_line(first), fix=first.fix if same else fix) from first
