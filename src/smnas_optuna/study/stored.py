"""Stored attributes, read with doubt: a database can be edited, and another program may have written to the study.

Every value that this package stores under a name has one form. A value of another form is left out where it is read,
and its trial counts for nothing. ``docs/storage.md`` says what the attributes mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.arch import decode
from smnas_optuna.errors import ArchError, StudyError, shortened
from smnas_optuna.study import attributes

Form = Callable[[Any], bool]
"""Returns whether a value has the form."""
LARGEST = 2**63
"""No count is larger."""
LONGEST_NAME, LONGEST_ARCH, LONGEST = 600, 512, 200
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError)
"""What Optuna raises when a row of its tables holds something that it did not write."""


def study_attrs(study: Study) -> dict[str, Any]:
    """Return the attributes of ``study`` by name, without those that have not the form that this package stores.

    Raises:
        StudyError: If they cannot be read.
    """
    try:
        return _readable(study.user_attrs, STUDY_FORMS)[0]
    except UNREADABLE as error:
        raise unreadable(study, "attributes", error) from error


def trial_attrs(trial: FrozenTrial) -> tuple[dict[str, Any], str | None]:
    """Return the attributes of ``trial`` that have their form, and the name of the first one that has not, if any."""
    return _readable(trial.user_attrs, TRIAL_FORMS)


def stored_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials of ``study`` in the order of their numbers; they are not to be changed.

    Raises:
        StudyError: If they cannot be read.
    """
    try:
        return study.get_trials(deepcopy=False)
    except UNREADABLE as error:
        raise unreadable(study, "trials", error) from error


def unreadable(study: Study, what: str, error: Exception) -> StudyError:
    """Return the error for ``what`` of ``study`` that Optuna cannot read."""
    cause = shortened((str(error) or type(error).__name__).splitlines()[0], LONGEST)
    return StudyError(
        f"study {shortened(study.study_name, LONGEST)}: its {what} cannot be read, as no program writes them: {cause}",
        fix="bring a copy of the database back; somebody has edited it",
    )


def are_objectives(values: object) -> bool:
    """Return whether ``values`` are a latency in ms and an AP in [0, 1]."""
    if not (isinstance(values, list | tuple) and len(values) == 2):
        return False
    latency_ms, ap = values
    return _is_positive(latency_ms) and _is_number(ap) and 0 <= ap <= 1


@lru_cache(maxsize=4096)
def is_arch(text: str) -> bool:
    """Return whether ``text`` names an architecture, in any spelling; only such names have folders in ``runs/``."""
    try:
        decode(text)
    except ArchError:
        return False
    return len(text) <= LONGEST_ARCH


def _readable(values: Mapping[str, Any], forms: Mapping[str, Form]) -> tuple[dict[str, Any], str | None]:
    wrong = [name for name, form in forms.items() if name in values and not form(values[name])]
    return {name: value for name, value in values.items() if name not in wrong}, next(iter(wrong), None)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def _is_arch(value: object) -> bool:
    return isinstance(value, str) and is_arch(value)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_measured(value: object) -> bool:
    """Return whether ``value`` is a number that is not negative."""
    return _is_number(value) and value >= 0  # type: ignore[operator]


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _is_timed(value: object) -> bool:
    """Return whether ``value`` is a time, or NaN if it could not be measured."""
    return _is_positive(value) or (isinstance(value, float) and math.isnan(value))


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _or_none(form: Form) -> Form:
    return lambda value: value is None or form(value)


def _list_of(form: Form) -> Form:
    return lambda value: isinstance(value, list | tuple) and all(map(form, value))


def _mapping_to(form: Form) -> Form:
    return lambda value: isinstance(value, Mapping) and all(map(form, value.values()))


def _mapping_with(**forms: Form) -> Form:
    """Return the form of a mapping in which each of these names, if it is there, has its own form."""
    return lambda value: (
        isinstance(value, Mapping) and all(form(value[name]) for name, form in forms.items() if name in value)
    )


def _is_metric(value: object) -> bool:
    """Return whether ``value`` is a number or what stands for one that could not be measured."""
    return value is None or _is_number(value) or (isinstance(value, float) and math.isnan(value))


def _are_rungs(value: object) -> bool:
    return _mapping_to(_is_metric)(value) and all(
        epoch.isdecimal() and len(epoch) < 10
        for epoch in value  # type: ignore[attr-defined]
    )


def _is_device(value: object) -> bool:
    return _mapping_to(lambda each: _is_name(each) or _is_count(each))(value)


TRIAL_FORMS: Mapping[str, Form] = {
    "worker": _is_name,
    "arch": _is_arch,
    "spec": _is_mapping,
    "generation": _is_count,
    "baseline": _is_bool,
    attributes.ORIGIN: _is_name,
    attributes.RANKED: _is_bool,
    "seed": _is_count,
    "device": _is_device,
    "versions": _mapping_to(_is_name),
    "num_params": _is_count,
    "multiply_adds": _is_count,
    "flops": _is_count,
    "gate": _mapping_with(ratio=_or_none(_is_positive)),
    "gate_ms": _is_timed,
    "expected_latency_ms": _is_timed,
    "epochs_before": _is_count,
    "epochs_done": _is_count,
    "forced": _list_of(_is_text),
    "seconds": _mapping_to(_is_measured),
    "estimated_seconds": _is_measured,
    "over_budget": _list_of(_is_name),
    "dominated_by": _list_of(_is_name),
    "ap_by_epoch": _are_rungs,
    "stopped_at_epoch": _is_count,
    "stopped_by": _is_name,
    "metrics": _mapping_to(_is_metric),
    "latency": _is_mapping,
    "skipped_steps": _is_count,
    "weights": _is_name,
    "cached_from": _is_count,
    "cached_study": _is_name,
    "reason": _is_text,
    "killed": _is_bool,
}
LIMIT_FORMS: Mapping[str, Form] = {
    "max_seconds": _or_none(_is_measured),
    "max_latency_ms": _or_none(_is_measured),
    "max_params": _or_none(_is_count),
    "pruning": _is_bool,
}
STUDY_FORMS: Mapping[str, Form] = {
    attributes.FINGERPRINT: _mapping_with(device=_is_device, recipe=_is_mapping),
    attributes.VERSIONS: _mapping_to(_is_name),
    attributes.DATA_ROOT: _is_text,
    attributes.REFERENCE_MS: _is_positive,
    attributes.LIMITS: _mapping_with(**LIMIT_FORMS),
    attributes.BUDGET: _is_positive,
    attributes.ENDED: _mapping_with(reason=_is_text, failed=_is_bool),
    attributes.FOLDER: _is_name,
    attributes.RETIMED: _mapping_to(_is_mapping),
    attributes.TIMED_TOGETHER: _mapping_to(_is_positive),
}
