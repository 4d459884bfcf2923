"""The fingerprint of a study: everything that its numbers depend on. Numbers compare only under one fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from optuna.study import Study

from smnas_optuna.errors import NEXT_LINE, StudyError, shortened
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.stored import stored_trials, study_attrs

LONGEST_VALUE = 200
"""Maximum number of characters of a value in a message."""
DIRECTIONS: list[Literal["minimize", "maximize"]] = ["minimize", "maximize"]
METRIC_NAMES = ["latency_ms", "mAP"]
NEVER_FORCED = "space"
"""The part of a fingerprint that must not differ: Optuna cannot change the choices of a gene."""

TRAIN = "train"
"""The part of a recipe that ``[train]`` and ``[modular.train]`` set."""


def trained_alike(study: Study, other: Study) -> bool:
    """Return whether both studies train with one recipe: only then do their APs compare."""
    recipes = [study_attrs(each).get(FINGERPRINT, {}).get("recipe", {}).get(TRAIN) for each in (study, other)]
    return bool(recipes[0] == recipes[1])


def check_ours(study: Study, place: object) -> None:
    """Check that this package made ``study``: another program may have stored one of the same name.

    A study gets its metric names as it is made, and its fingerprint before its first trial.

    Args:
        study: The study, with its trials.
        place: The study's database, for the message.

    Raises:
        StudyError: If it has other objectives, or trials without names of the metrics and fingerprint.
    """
    directions = [each.name.lower() for each in study.directions]
    if directions != DIRECTIONS:
        raise _foreign(study, place, f"its objectives are {' and '.join(directions)}, not {' and '.join(DIRECTIONS)}")
    if study.metric_names != METRIC_NAMES and FINGERPRINT not in study_attrs(study):
        _check_no_trials(study, place)


def check_fingerprint(study: Study, fingerprint: Mapping[str, Any], place: object, *, force: bool = False) -> list[str]:
    """Return the differences between the study's fingerprint and ``fingerprint``, one line each: ``key was .., is ..``.

    Args:
        study: The study.
        fingerprint: JSON values by name: data, space, recipe and device.
        place: The study's database, for the message.
        force: True if differences are allowed, except those of the space. They are the user's risk: trials are marked
            (``forced``).

    Raises:
        StudyError: If there is a difference that is not allowed; names each difference with both values.
    """
    stored = study_attrs(study).get(FINGERPRINT)
    if stored is None:
        _check_no_trials(study, place)
        return []
    differing = differences(stored, fingerprint)
    allowed = force and NEVER_FORCED not in _kinds(differing)
    if differing and not allowed:
        fix = "go back to what it was, or copy study.toml into a new folder and start a new study there"
        if NEVER_FORCED not in _kinds(differing):
            fix += "; --force continues and marks the trials"
        refuse_differences(differing, f"{place}: the study was made with other", verb="its numbers", fix=fix)
    return list(differing.values())


def refuse_differences(differing: Mapping[str, str], what: str, *, verb: str = "the numbers", fix: str) -> None:
    """Check that nothing differs that numbers depend on.

    Args:
        differing: Differences, from :func:`differences`.
        what: Beginning of the message: the object that was made with something else.
        verb: Subject of "do not compare" in the message.
        fix: Action that solves the problem.

    Raises:
        StudyError: If there is a difference; names each difference with both values.
    """
    if differing:
        raise StudyError(
            f"{what} {' and '.join(_kinds(differing))}; {verb} do not compare",
            first=NEXT_LINE.join(differing.values()),
            fix=fix,
        )


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return all changes: ``key.of.the.value`` -> ``key.of.the.value was .., is ..``, in the order of the keys.

    Args:
        was: JSON values by name, nested to any depth.
        now: Present values, in the same form.
    """
    before, after = _flatten(was), _flatten(json.loads(json.dumps(now)))
    differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    # a list of classes may have thousands
    said = {
        key: [shortened(str(each.get(key, "not there")), LONGEST_VALUE) for each in (before, after)]
        for key in differing
    }
    return {key: f"{key} was {first}, is {second}" for key, (first, second) in said.items()}


def _check_no_trials(study: Study, place: object) -> None:
    trials = stored_trials(study)
    if trials:
        raise _foreign(study, place, f"it has {len(trials)} trials and no fingerprint of smnas")


def _foreign(study: Study, place: object, problem: str) -> StudyError:
    name = shortened(study.study_name, LONGEST_VALUE)
    return StudyError(
        f"{place}: the study {name} was made by another program: {shortened(problem, LONGEST_VALUE)}",
        fix="leave that database to the other program, and search in a study folder of your own: copy study.toml into "
        "a new folder",
    )


def _kinds(differing: Mapping[str, str]) -> list[str]:
    return sorted({key.partition(".")[0] for key in differing})


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
