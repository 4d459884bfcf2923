"""A data folder -> its checked facts."""

from __future__ import annotations

from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.formats.recognise import TITLES, recognise
from smnas_optuna.data.images import Progress
from smnas_optuna.errors import DataError
from smnas_optuna.new_study.facts import DataFacts, facts_of
from smnas_optuna.session.advice import advice_on

DROP_IN_FILE, DROP_OPTION = "set drop_empty_boxes = true in study.toml", "give --drop-empty-boxes"
"""What the advice on unusable boxes says once there is a study file, and before."""


def find_data(root: Path, *, drop_empty_boxes: bool = False) -> tuple[DataSettings, str, str]:
    """Return the ``[data]`` table that reads ``root``, the name of its format, and what tells it.

    Raises:
        DataError: If ``root`` is no folder, or looks like no format.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder", fix="name the data folder: --data DIR")
    plain = DataSettings(drop_empty_boxes=drop_empty_boxes)
    recognised = recognise(root, plain)
    if recognised.why:
        return plain.model_copy(update={"format": recognised.format}), TITLES[recognised.format], recognised.why
    if not (root / plain.train).is_file():
        return plain, TITLES["coco"], ""  # loading it says what is missing
    named = {role: plain.train.replace("train", role) for role in ("val", "test")}
    there = {role: name for role, name in named.items() if (root / name).is_file()}
    images = plain.images if (root / plain.images).is_dir() else "."
    files = " and ".join((plain.train, *there.values()))
    why = f"{files} {'are' if there else 'is'} there"
    return plain.model_copy(update={"format": "coco", "images": images, **there}), TITLES["coco"], why


def look_at_data(
    root: Path, *, drop_empty_boxes: bool = False, cache: Path | None = None, on_progress: Progress = lambda *_: None
) -> tuple[DataFacts, list[str]]:
    """Return the facts of the data in ``root``, and notes on them, after all checks of ``smnas data check``.

    Every image is decoded once, as the checks of ``data check`` do; the first search decodes none of them again, with
    ``cache``.

    Args:
        root: The data folder.
        drop_empty_boxes: Leave out unusable boxes instead of refusing the data.
        cache: Folder that keeps what is checked, see :func:`smnas_optuna.data.load_splits`.
        on_progress: Called after each decoded image.

    Raises:
        DataError: If the data cannot be used.
    """
    settings, title, why = find_data(root, drop_empty_boxes=drop_empty_boxes)
    try:
        splits = load_splits(root, settings, cache=cache, on_progress=on_progress)
    except DataError as error:
        if DROP_IN_FILE not in error.fix:
            raise
        fix = error.fix.replace(DROP_IN_FILE, DROP_OPTION)
        raise DataError(error.message, first=error.first, fix=fix) from None
    facts = facts_of(splits, settings, title=title, why=why)
    roles = (("train", splits.train), ("val", splits.val), ("test", splits.test))
    notes = [f"{role}: {note}" for role, split in roles if split is not None for note in split.notes]
    return facts, [*notes, *advice_on(splits, max(100, int(facts.objects.max())))]
