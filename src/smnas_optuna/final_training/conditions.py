"""What a final training depends on: whether that is as the search had it, and as the training was begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnas_optuna.config import StudySettings
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.errors import NEXT_LINE, StudyError
from smnas_optuna.final_training.record import Plan, TrainingRecord
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.fingerprint import TRAIN, differences, refuse_differences
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import stage_name
from smnas_optuna.study.stored import study_attrs

RECIPE = (TRAIN, "detector")
"""Parts of a recipe that AP depends on."""
_OTHER_TRAINING = "go back to what it was, or begin another training: --name OTHER"


def conditions_of(session: Session, ranks: Ranks | None) -> dict[str, Any]:
    """Return what weights and APs depend on beside the plan, as JSON values."""
    depends_on, splits = session.depends_on, session.testbed.splits
    images = [] if splits.test is None else splits.test.images
    test = {"content": splits.test_hash, "images": len(images), "boxes": sum(len(image.boxes) for image in images)}
    return {
        "data": {**depends_on["data"], "test": test},
        "recipe": _recipe_of(session.settings),
        "device": {**session.executor.device, **({} if ranks is None else {"processes": ranks.size})},
    }


def _recipe_of(settings: StudySettings) -> dict[str, Any]:
    train = settings.train.model_dump(mode="json", exclude={"epochs"})  # the plan has them
    return {TRAIN: train, "detector": settings.detector.model_dump(mode="json")}


def check_study(session: Session) -> None:
    """Check that the data is that of the search, and say where recipe or device are others.

    Raises:
        StudyError: If the data is other data.
    """
    refuse_differences(
        session.other_data,
        f"{session.folder.path}: the study was made with other",
        fix="name the data of the search: --data DIR",
    )
    for study in session.folder.studies:
        was = study_attrs(study).get(FINGERPRINT, {}).get("recipe")
        now = session.depends_on_of(study)["recipe"]
        if was is not None and any(was.get(name) != now[name] for name in RECIPE):
            session.listener.note(
                f"warning: {stage_name(study)} was trained with another recipe than study.toml has now"
            )
    other = differences({"device": device_of(session.folder) or {}}, {"device": session.depends_on["device"]})
    if other:
        session.listener.note(
            f"warning: {'; '.join(other.values())}: on another device than that of the search the latency has no place "
            "on the scale of the study"
        )


def check_begun(stored: TrainingRecord, about: Mapping[str, Any], place: Path) -> None:
    """Check that a training depends on what it was begun with.

    Of the devices of a cluster only kind and threads are known before, so that no more than these is compared.

    Raises:
        StudyError: If it does not.
    """
    known = {"processes", *(stored.about["device"].keys() & about["device"].keys())}
    was, now = (
        {**each, "device": {name: value for name, value in each["device"].items() if name in known}}
        for each in (stored.about, about)
    )
    refuse_differences(differences(was, now), f"{place}: was begun with other", verb="its epochs", fix=_OTHER_TRAINING)


def check_finished(stored: TrainingRecord, settings: StudySettings, place: Path) -> None:
    """Check that a finished training has the recipe of ``settings``, as far as the version that trained it knew it.

    Data and device are not looked at: nothing is trained.

    Raises:
        StudyError: If it has another one.
    """
    was, recipe = stored.about["recipe"], _recipe_of(settings)
    now = {part: {name: value for name, value in recipe[part].items() if name in was[part]} for part in RECIPE}
    refuse_differences(
        differences({"recipe": was}, {"recipe": now}),
        f"{place}: was trained with another",
        verb="its weights",
        fix=_OTHER_TRAINING,
    )


def device_of(folder: StudyFolder) -> Any:
    """Return the device that the latencies of a study belong to; None before a search."""
    structural = folder.structural
    return None if structural is None else study_attrs(structural).get(FINGERPRINT, {}).get("device")


def refuse_other_request(was: Plan, now: Plan, place: Path) -> None:
    """Check that a training was asked for as it is asked for now.

    Raises:
        StudyError: If it was not.
    """
    if was.hours is not None and was.hours == now.hours:
        now = replace(now, epochs=was.epochs)
    pairs = {
        "architecture": (was.arch, now.arch),
        "epochs": (was.epochs, now.epochs) if now.hours is None else (None, None),
        "--hours": (was.hours, now.hours),
        "--with-val": (was.with_val, now.with_val),
    }
    differing = {
        name: f"{name}: it has {before}, and {after} is asked for"
        for name, (before, after) in pairs.items()
        if before != after
    }
    if differing:
        raise StudyError(
            f"{place}: there is another training of this name: {len(differing)} part"
            f"{'s' if len(differing) > 1 else ''} of its request differ{'' if len(differing) > 1 else 's'}",
            first=NEXT_LINE.join(differing.values()),
            fix="give this one another name: --name OTHER",
        )
