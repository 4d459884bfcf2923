"""Stored attributes, read with doubt: a database can be edited, and another program may have written to the study.

Every value that this package stores under a name has one form. A value of another form is left out where it is read,
and its trial counts for nothing. ``docs/storage.md`` says what the attributes mean.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from smnas_optuna.errors import StudyError, first_line, quote, shortened
from smnas_optuna.study import attributes
from smnas_optuna.study.forms import (
    Form,
    is_arch,
    is_bool,
    is_count,
    is_device,
    is_mapping,
    is_measured,
    is_metric,
    is_name,
    is_number,
    is_positive,
    is_text,
    is_timed,
    list_of,
    mapping_to,
    mapping_with,
    or_none,
)
from smnas_optuna.study.optuna_private import OUTSIDE, generation_of, stored_parents

LONGEST = 200
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
        with _collector_at_rest():
            return study.get_trials(deepcopy=False)
    except UNREADABLE as error:
        raise unreadable(study, "trials", error) from error


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep Python's garbage collector from looking at rows while they are read.

    SQLAlchemy makes an object of each row, and the collector would look at all of them again and again: the first
    reading of 5,000 trials takes 1.9 s of processor time without it, and 4.9 s with it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_drawn(study: Study, choices: Mapping[str, Sequence[str | int]] | None) -> None:
    """Check what Optuna goes on with: the genes of the trials, and their places in the population.

    Optuna reads them without doubt. A gene with other choices ends the search with an exception, and so does a
    generation that is no number. If a complete trial lacks a gene, all later children are random.

    Args:
        study: The study, with its trials.
        choices: Choices of each gene; None leaves the genes out.

    Raises:
        StudyError: If a trial or the study has something else.
    """
    trials = stored_trials(study)
    for trial in trials:
        if (problem := _problem(trial, choices, len(trials))) is not None:
            raise unreadable(study, f"trial {trial.number}", ValueError(problem))
    try:
        whole = all(list_of(is_count)(each) for each in stored_parents(study))
    except UNREADABLE as error:
        raise unreadable(study, "population", error) from error
    if not whole:
        raise unreadable(study, "population", ValueError("the parents of a generation are no list of trials"))


def _problem(trial: FrozenTrial, choices: Mapping[str, Sequence[str | int]] | None, num_trials: int) -> str | None:
    """Return what Optuna cannot go on with in ``trial``, if there is anything."""
    generation = generation_of(trial)
    if generation is not None and not (is_number(generation) and OUTSIDE <= generation <= num_trials):
        return f"its generation is {quote(generation)}"
    for name, values in ({} if choices is None else choices).items():
        stored = trial.distributions.get(name)
        if stored is None and trial.state == TrialState.COMPLETE:
            return f"it has no gene {quote(name)}"
        if stored is not None and stored != CategoricalDistribution(tuple(values)):
            return f"its gene {quote(name)} has other choices"
    return None


def unreadable(study: Study, what: str, error: Exception) -> StudyError:
    """Return the error for ``what`` of ``study`` that Optuna cannot read."""
    cause = shortened(first_line(error), LONGEST)
    return StudyError(
        f"study {shortened(study.study_name, LONGEST)}: its {what} cannot be read, as no program writes them: {cause}",
        fix="bring a copy of the database back; somebody has edited it",
    )


def are_objectives(values: object) -> bool:
    """Return whether ``values`` are a latency in ms and an AP in [0, 1]."""
    if not (isinstance(values, list | tuple) and len(values) == 2):
        return False
    latency_ms, ap = values
    return is_positive(latency_ms) and is_number(ap) and 0 <= ap <= 1


def _readable(values: Mapping[str, Any], forms: Mapping[str, Form]) -> tuple[dict[str, Any], str | None]:
    wrong = [name for name, form in forms.items() if name in values and not form(values[name])]
    return {name: value for name, value in values.items() if name not in wrong}, next(iter(wrong), None)


def _are_rungs(value: object) -> bool:
    return mapping_to(is_metric)(value) and all(
        epoch.isdecimal() and len(epoch) < 10
        for epoch in value  # type: ignore[attr-defined]
    )


def _is_deadline(value: object) -> bool:
    return mapping_to(is_positive)(value) and value.keys() == {"at", "latest", "end", "total_s"}  # type: ignore[attr-defined]


TRIAL_FORMS: Mapping[str, Form] = {
    "worker": is_name,
    "arch": is_arch,
    "spec": is_mapping,
    "generation": is_count,
    "baseline": is_bool,
    attributes.ORIGIN: is_name,
    attributes.RANKED: is_bool,
    "seed": is_count,
    "device": is_device,
    "versions": mapping_to(is_name),
    "num_params": is_count,
    "multiply_adds": is_count,
    "flops": is_count,
    "gate": mapping_with(ratio=or_none(is_positive)),
    "gate_ms": is_timed,
    "expected_latency_ms": is_timed,
    "epochs_before": is_count,
    "epochs_done": is_count,
    "forced": list_of(is_text),
    "seconds": mapping_to(is_measured),
    "estimated_seconds": is_measured,
    "over_budget": list_of(is_name),
    "dominated_by": list_of(is_name),
    "ap_by_epoch": _are_rungs,
    "stopped_at_epoch": is_count,
    "stopped_by": is_name,
    "metrics": mapping_to(is_metric),
    "latency": is_mapping,
    "skipped_steps": is_count,
    "weights": is_name,
    "cached_from": is_count,
    "cached_study": is_name,
    "reason": is_text,
    "killed": is_bool,
}
LIMIT_FORMS: Mapping[str, Form] = {
    "max_seconds": or_none(is_measured),
    "max_latency_ms": or_none(is_measured),
    "max_params": or_none(is_count),
    "pruning": is_bool,
}
STUDY_FORMS: Mapping[str, Form] = {
    attributes.FINGERPRINT: mapping_with(device=is_device, recipe=is_mapping),
    attributes.VERSIONS: mapping_to(is_name),
    attributes.DATA_ROOT: is_text,
    attributes.REFERENCE_MS: is_positive,
    attributes.LIMITS: mapping_with(**LIMIT_FORMS),
    attributes.BUDGET: is_positive,
    attributes.DEADLINE: or_none(_is_deadline),
    attributes.ENDED: mapping_with(reason=is_text, failed=is_bool),
    attributes.FOLDER: is_name,
    attributes.RETIMED: mapping_to(is_mapping),
    attributes.TIMED_TOGETHER: mapping_to(is_positive),
}
