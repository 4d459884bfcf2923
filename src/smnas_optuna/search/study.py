"""A study: made, found, and refused where it does not fit what is asked of it."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study

from smnas_optuna.errors import StudyError, shortened
from smnas_optuna.search.crew import WORKERS, Crew
from smnas_optuna.search.record import MODULAR_PREFIX
from smnas_optuna.search.record import STRUCTURAL as STRUCTURAL  # whoever asks for a study names it
from smnas_optuna.search.request import StageName
from smnas_optuna.search.storage import (
    DATABASE,
    engine_of,
    has_storage,
    make_storage,
    open_storage,
    storage_url,
    study_name,
)

FINGERPRINT = "fingerprint"
"""Study attribute: what the numbers of a study depend on."""
METRIC_NAMES = ["latency_ms", "mAP"]
ENDED = "ended"
"""Study attribute: why the last search of the stage that ended did so, and whether that is a failure; of the studies of
stage 2 the first has it."""
FOLDER = "folder"
"""Study attribute: content of ``FOLDER_FILE``, which tells the folder where the workers of a study meet."""
FOLDER_FILE = "folder.id"
LONGEST_VALUE = 200
"""Characters of a value that a message shows."""
TIMED_TOGETHER = "timed_together"
"""Attribute of the structural study: arch -> latency in ms of the members of both stages' fronts, timed in one run."""
NEVER_FORCED = "space"
"""The part of a fingerprint that must not differ: Optuna cannot change the choices of a gene."""


def create_study(study_dir: Path, stage: str, sampler: BaseSampler) -> Study:
    """Return the study of ``stage`` in ``study_dir``, made if it is not there: minimise latency, maximise mAP."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the listener tells, and better
    make_storage(study_dir)
    study = optuna.create_study(
        storage=open_storage(study_dir),
        sampler=sampler,
        study_name=study_name(study_dir, stage),
        directions=["minimize", "maximize"],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(METRIC_NAMES)
    return study


def find_study(study_dir: Path, stage: str, sampler: BaseSampler | None = None) -> Study | None:
    """Return the study of ``stage`` in ``study_dir``, or None if there is none yet.

    Raises:
        StudyError: If the database is none, or cannot be reached.
    """
    if not has_storage(study_dir):
        return None
    try:
        return optuna.load_study(
            study_name=study_name(study_dir, stage), storage=open_storage(study_dir), sampler=sampler
        )
    except KeyError:  # the database was made, but the process died before the study was
        return None


def load_study(study_dir: Path, stage: str, sampler: BaseSampler | None = None) -> Study:
    """Return the study of ``stage`` in ``study_dir``.

    Raises:
        StudyError: If there is none yet, or the database cannot be used.
    """
    study = find_study(study_dir, stage, sampler)
    if study is None:
        command = stage.partition("/")[0]
        raise StudyError(
            f"{study_dir}: there is no {stage} study yet", fix=f"start one: smnas {command} {study_dir} [--data DIR]"
        )
    return study


def modular_studies(study_dir: Path) -> list[Study]:
    """The studies of stage 2 in ``study_dir``, one for each parent, in the order in which they were made.

    Raises:
        StudyError: If the database is none, or cannot be reached.
    """
    if not has_storage(study_dir):
        return []
    storage, prefix = open_storage(study_dir), study_name(study_dir, MODULAR_PREFIX)
    found = sorted((each._study_id, each.study_name) for each in storage.get_all_studies())
    return [optuna.load_study(study_name=name, storage=storage) for _, name in found if name.startswith(prefix)]


def all_studies(study_dir: Path) -> list[Study]:
    """The studies that are in ``study_dir``, the structural one first; none if it was not begun.

    Raises:
        StudyError: If the database is none, or cannot be reached.
    """
    structural = find_study(study_dir, STRUCTURAL)
    return [*([] if structural is None else [structural]), *modular_studies(study_dir)]


def studies_of(study_dir: Path, stage: StageName | None) -> list[Study]:
    """The studies of ``stage`` in ``study_dir``; None is all that are there, the structural one first.

    Raises:
        StudyError: If there is none yet, or the database cannot be used.
    """
    structural = [] if stage == "modular" else [load_study(study_dir, STRUCTURAL)]
    modular = [] if stage == "structural" else modular_studies(study_dir)
    if stage == "modular" and not modular:
        raise StudyError(
            f"{study_dir}: there is no modular study yet", fix=f"start one: smnas modular {study_dir} [--data DIR]"
        )
    return [*structural, *modular]


def ended(study_dir: Path, stage: StageName) -> Mapping[str, Any]:
    """The reason why the last search of ``stage`` ended, and whether that is a failure: ``reason`` and ``failed``."""
    how: Mapping[str, Any] = studies_of(study_dir, stage)[0].user_attrs[ENDED]
    return how


def open_crew(study: Study, study_dir: Path) -> Crew:
    """The workers of ``study``, seen by a new one."""
    return Crew(study_dir / WORKERS, engine_of(study), study._study_id)


def check_folder(study: Study, study_dir: Path) -> None:
    """Check that the workers of ``study`` keep their locks in ``study_dir``, where they see who is alive.

    Raises:
        StudyError: If the study is kept in a database elsewhere, and its workers meet in another folder.
    """
    file = study_dir / WORKERS / FOLDER_FILE
    here = file.read_text(encoding="utf-8") if file.exists() else None
    there = study.user_attrs.get(FOLDER)
    if storage_url(study_dir) is not None and there is not None and here != there:
        raise StudyError(
            f"{study_dir}: the study {study.study_name} of {storage_url(study_dir)} belongs to another folder",
            fix="share that folder among the machines, or give this one another name to start a study of its own",
        )
    if there is None:
        study.set_user_attr(FOLDER, there := secrets.token_hex(8))
    if here != there:
        file.parent.mkdir(exist_ok=True)
        file.write_text(there, encoding="utf-8")


def check_fingerprint(
    study: Study, fingerprint: Mapping[str, Any], study_dir: Path, *, force: bool = False
) -> list[str]:
    """Return in what the study's numbers depend on something else now than when it began: ``key was .., is ..``.

    Args:
        study: The study.
        fingerprint: JSON values by name: data, space, recipe and device.
        study_dir: For the message.
        force: Whether a difference is allowed, other than one of the space.

    Raises:
        StudyError: If something differs that is not allowed to; names each with both of its values.
    """
    stored = study.user_attrs.get(FINGERPRINT)
    if stored is None:
        return []
    differing = differences(stored, fingerprint)
    listed = list(differing.values())
    kinds = sorted({key.partition(".")[0] for key in differing})
    if differing and (NEVER_FORCED in kinds or not force):
        fix = "go back to what it was, or copy study.toml into a new folder and start a new study there"
        if NEVER_FORCED not in kinds:
            fix += "; --force goes on and marks the trials"
        place = storage_url(study_dir) or study_dir / DATABASE
        raise StudyError(
            f"{place}: the study was made with other {' and '.join(kinds)}; its numbers do not compare",
            first="\n         ".join(listed),
            fix=fix,
        )
    return listed


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What is another now: ``key.of.the.value`` -> ``key.of.the.value was .., is ..``, in the order of the keys.

    Args:
        was: JSON values by name, of any depth.
        now: The same.
    """
    before, after = _flatten(was), _flatten(json.loads(json.dumps(now)))
    differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    # a list of classes may have thousands
    said = {
        key: [shortened(str(each.get(key, "not there")), LONGEST_VALUE) for each in (before, after)]
        for key in differing
    }
    return {key: f"{key} was {first}, is {second}" for key, (first, second) in said.items()}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
