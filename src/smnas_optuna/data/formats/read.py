"""The data sets of a study, in the format of its data folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data.annotation_file import read_document
from smnas_optuna.data.coco import CocoDataset, check_dataset, load_coco
from smnas_optuna.data.formats.coco_export import coco_files, first_names, image_folder, read_coco_export
from smnas_optuna.data.formats.found import Found
from smnas_optuna.data.formats.recognise import TITLES, Format, Recognised, recognise
from smnas_optuna.data.formats.roboflow import read_roboflow, roboflow_files
from smnas_optuna.data.formats.split_names import Role, folders_in
from smnas_optuna.data.formats.voc import read_voc
from smnas_optuna.data.formats.yolo import read_yolo
from smnas_optuna.data.image_paths import num_found
from smnas_optuna.data.missing_fields import with_names
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_path

_FOLDERS_TRIED = 20
USUAL_VAL = "instances_val.json"
"""Name of an annotation file that is told if it is there and nobody names it."""


def read_splits(root: Path, format: Format, *, need_train: bool = True) -> Mapping[Role, Found]:
    """Return the splits of a data folder in that format, those of training first.

    Args:
        root: The data folder.
        format: Its format; ``coco`` is an export of an annotation tool.
        need_train: Refuse a folder without images for training where the format can tell.

    Raises:
        DataError: If the folder cannot be used.
    """
    match format:
        case "coco":
            return read_coco_export(root, need_train=need_train)
        case "roboflow":
            return read_roboflow(root)
        case "yolo":
            return read_yolo(root, need_train=need_train)
        case "voc":
            return read_voc(root, need_train=need_train)


def load_datasets(root: Path, settings: DataSettings) -> tuple[dict[Role, CocoDataset], Recognised]:
    """Return the checked data sets of ``root`` by split, ``train`` always and ``val`` and ``test`` if they are there.

    Args:
        root: The data folder.
        settings: The ``[data]`` table of a study file.

    Returns:
        The data sets, and the format that they were read in; a note on it is that of ``train``.

    Raises:
        DataError: If a file cannot be used, or there are no images for training.
    """
    recognised = recognise(root, settings)
    if recognised.format == "coco" and not recognised.why:
        if settings.format == "auto" and not (root / settings.train).exists():
            raise _nothing_there(root, settings)
        return _load_coco_files(root, settings), recognised
    found = read_splits(root, recognised.format)
    if "train" not in found:
        raise DataError(
            f"{root}: {TITLES[recognised.format]} without images for training: only {' and '.join(found) or 'nothing'}",
            fix="put the training images into a folder train/, or name them as the format does",
        )
    loaded = {
        role: check_dataset(each.file, each.source, each.folder, drop_empty_boxes=settings.drop_empty_boxes)
        for role, each in found.items()
    }
    notes = (*recognised.note(settings), *loaded["train"].notes)
    return {**loaded, "train": replace(loaded["train"], notes=notes)}, recognised


def annotation_files(root: Path, settings: DataSettings, recognised: Recognised) -> list[Path] | None:
    """Return the annotation files of all splits; None for a format with a file for each image."""
    if recognised.format == "coco" and not recognised.why:
        return [root / name for name in (settings.train, settings.val, settings.test) if name is not None]
    find = {"coco": coco_files, "roboflow": roboflow_files}.get(recognised.format)
    return None if find is None else list(find(root).values())


def _nothing_there(root: Path, settings: DataSettings) -> DataError:
    """Return the error for a folder that looks like no format."""
    hint = format_hint(root, settings, "--data ")
    return DataError(
        f"{root / settings.train}: there is no such annotation file",
        fix=f"name the file in [data] of study.toml, relative to --data, or call it {settings.train}; {hint}",
    )


def format_hint(root: Path, settings: DataSettings, option: str = "") -> str:
    """Return advice for a folder that looks like no format: a folder inside that does, or what the formats need."""
    if (root / "annotations.xml").is_file():
        return "annotations.xml is CVAT's own format: export the data as COCO, YOLO or Pascal VOC"
    inside = [(folder, recognise(folder, settings)) for folder in folders_in(root)[:_FOLDERS_TRIED]]
    hints = [f"{option}{folder} looks like {TITLES[each.format]}" for folder, each in inside if each.why]
    others = (
        "the other formats need: train/_annotations.coco.json (Roboflow), annotations/instances_*.json (CVAT), "
        "result.json (Label Studio), data.yaml or classes.txt (YOLO), Annotations/ (Pascal VOC)"
    )
    return hints[0] if hints else others


def _load_coco_files(root: Path, settings: DataSettings) -> dict[Role, CocoDataset]:
    """Load the annotation files that ``settings`` names; images are in their own folder, or in the common one."""
    named: dict[Role, tuple[str | None, str | None]] = {
        "train": (settings.train, None),
        "val": (settings.val, settings.val_images),
        "test": (settings.test, settings.test_images),
    }
    found = {
        role: load_coco_file(root, root / file, settings, folder) for role, (file, folder) in named.items() if file
    }
    if settings.val is None and (root / USUAL_VAL).is_file():
        note = f"{USUAL_VAL} is there, and [data] does not name it: it is not used, and training images are set aside"
        found["train"] = replace(found["train"], notes=(*found["train"].notes, note))
    return found


def load_coco_file(root: Path, path: Path, settings: DataSettings, folder: str | None) -> CocoDataset:
    """Load an annotation file; if ``images`` is not there and nobody named it, the folder that has them is found.

    Args:
        root: The data folder.
        path: The annotation file.
        settings: The ``[data]`` table of a study file.
        folder: Folder of its images, relative to ``root``; None takes the one that ``settings`` names for all.

    Raises:
        DataError: If the file or its images cannot be used.
    """
    images = root / (settings.images if folder is None else folder)
    note: tuple[str, ...] = ()
    if not images.is_dir() and folder is None and settings.images == DataSettings().images:
        document, _ = with_names(read_document(path))
        found = image_folder(root, path, document)
        if num_found(first_names(document), found):
            note = (f"there is no folder {settings.images}/: the images are those in {quote_path(found)}",)
            images = found
    dataset = load_coco(path, images, drop_empty_boxes=settings.drop_empty_boxes)
    return replace(dataset, notes=(*note, *dataset.notes))
