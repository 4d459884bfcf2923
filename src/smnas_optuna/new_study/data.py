"""A data folder -> its checked facts."""

from __future__ import annotations

from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.formats.recognise import TITLES, recognise
from smnas_optuna.data.images import Progress
from smnas_optuna.errors import DataError
from smnas_optuna.new_study.coco_files import coco_settings
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
    if recognised.format != "coco":
        settings = plain.model_copy(update={"format": recognised.format})
        return settings, TITLES[recognised.format], recognised.why
    found = coco_settings(root, drop_empty_boxes=drop_empty_boxes)
    if found is None:
        return plain, TITLES["coco"], ""  # loading it says what is missing
    return found[0], TITLES["coco"], found[1]


def look_at_data(
    root: Path, *, drop_empty_boxes: bool = False, index_file: Path | None = None, on_progress: Progress | None = None
) -> tuple[DataFacts, list[str]]:
    """Return the facts of the data in ``root``, and notes on them, after all checks of ``smnas data check``.

    Every image is decoded once, as the checks of ``data check`` do; the first search decodes none of them again, with
    ``index_file``.

    Args:
        root: The data folder.
        drop_empty_boxes: Leave out unusable boxes instead of refusing the data.
        index_file: File for hashes of the images' content, see :func:`smnas_optuna.data.load_splits`.
        on_progress: Called after each decoded image.

    Raises:
        DataError: If the data cannot be used.
    """
    settings, title, why = find_data(root, drop_empty_boxes=drop_empty_boxes)
    try:
        splits = load_splits(root, settings, index_file=index_file, on_progress=on_progress)
    except DataError as error:
        if DROP_IN_FILE not in error.fix:
            raise
        fix = error.fix.replace(DROP_IN_FILE, DROP_OPTION)
        raise DataError(error.message, first=error.first, fix=fix) from None
    facts = facts_of(splits, settings, title=title, why=why)
    roles = (("train", splits.train), ("val", splits.val), ("test", splits.test))
    notes = [f"{role}: {note}" for role, split in roles if split is not None for note in split.notes]
    return facts, [*notes, *advice_on(splits, max(100, int(facts.objects.max())))]
