"""Arguments that are one of a few words."""

from __future__ import annotations

from collections.abc import Sequence

from smnas_optuna.errors import SmnasError, StudyError


def check_word(name: str, value: object, words: Sequence[object], error: type[SmnasError] = StudyError) -> None:
    """Check that an argument is one of a few words.

    Args:
        name: Name of the argument.
        value: The argument.
        words: What it may be.
        error: What is raised otherwise.

    Raises:
        SmnasError: If it is none of them.
    """
    if value not in words:
        raise error(f"{name}={value!r} is not known", fix=f"take one of {', '.join(map(repr, words))}")
