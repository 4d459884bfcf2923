"""Forms of values that are read with doubt: what a database or a file may hold in the place of what was stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.errors import ArchError

Form = Callable[[Any], bool]
"""Returns whether a value has the form."""
LARGEST = 2**63
"""No count is larger."""
LONGEST_NAME, LONGEST_ARCH = 600, 512


def is_text(value: object) -> bool:
    """Return whether ``value`` is a text."""
    return isinstance(value, str)


def is_name(value: object) -> bool:
    """Return whether ``value`` is a short text that can be printed."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def is_arch(value: object) -> bool:
    """Return whether ``value`` names an architecture, in any spelling; only such names have folders in ``runs/``."""
    return isinstance(value, str) and _names_a_detector(value)


def is_bool(value: object) -> bool:
    """Return whether ``value`` is true or false."""
    return isinstance(value, bool)


def is_count(value: object) -> bool:
    """Return whether ``value`` is an integer that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def is_number(value: object) -> bool:
    """Return whether ``value`` is a finite number."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def is_measured(value: object) -> bool:
    """Return whether ``value`` is a number that is not negative."""
    return is_number(value) and value >= 0  # type: ignore[operator]


def is_positive(value: object) -> bool:
    """Return whether ``value`` is a number above 0."""
    return is_number(value) and value > 0  # type: ignore[operator]


def is_timed(value: object) -> bool:
    """Return whether ``value`` is a time, or NaN if it could not be measured."""
    return is_positive(value) or (isinstance(value, float) and math.isnan(value))


def is_mapping(value: object) -> bool:
    """Return whether ``value`` is a mapping."""
    return isinstance(value, Mapping)


def or_none(form: Form) -> Form:
    """Return the form of a value that may also be None."""
    return lambda value: value is None or form(value)


def list_of(form: Form) -> Form:
    """Return the form of a list whose elements all have ``form``."""
    return lambda value: isinstance(value, list | tuple) and all(map(form, value))


def mapping_to(form: Form) -> Form:
    """Return the form of a mapping whose values all have ``form``."""
    return lambda value: isinstance(value, Mapping) and all(map(form, value.values()))


def mapping_with(**forms: Form) -> Form:
    """Return the form of a mapping in which each of these names, if it is there, has its own form."""
    return lambda value: (
        isinstance(value, Mapping) and all(form(value[name]) for name, form in forms.items() if name in value)
    )


def is_metric(value: object) -> bool:
    """Return whether ``value`` is a number or what stands for one that could not be measured."""
    return value is None or is_number(value) or (isinstance(value, float) and math.isnan(value))


def is_device(value: object) -> bool:
    """Return whether ``value`` describes a device: names and counts by name."""
    return mapping_to(lambda each: is_name(each) or is_count(each))(value)


@lru_cache(maxsize=4096)
def _names_a_detector(text: str) -> bool:
    try:
        decode(text)
    except ArchError:
        return False
    return len(text) <= LONGEST_ARCH
