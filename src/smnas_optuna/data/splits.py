"""The data sets of a study: training, validation, and a test set that the search never uses."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smnas_optuna.config import DataSettings
from smnas_optuna.data.alike import note_alike
from smnas_optuna.data.coco import CocoDataset, load_coco
from smnas_optuna.data.content import ContentIndex
from smnas_optuna.data.content_hash import content_hash
from smnas_optuna.data.formats import load_datasets, load_one_split
from smnas_optuna.data.formats.roboflow import ROBOFLOW_FILE
from smnas_optuna.data.hold_out import find_groups, has_objects, hold_out
from smnas_optuna.data.images import Progress
from smnas_optuna.data.reading import read_images
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_path

TEST_IMAGES_FIX = (
    'name their annotation file in study.toml: test = "FILE.json" in [data]; in the formats of other tools put them '
    "where the format has them, such as test/"
)
"""Advice where a study has no test images."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """Training, validation and optional test data with the same categories; no image is in two of them.

    Attributes:
        train: Has at least one box that is not a crowd region.
        val: As ``train``.
        content_hash: Hash of the annotations and pixels of ``train`` and ``val``, independent of paths and order.
        test: As ``train``, used by no search; None if the study names none.
        test_hash: Hash of ``test`` as in ``content_hash``; no search depends on it.
        grey_bits: Bits of the values of images with more than 8 bits a channel, 8..16; 16 if there are none.
        held_out: True if ``val`` is a part of what the data folder has for training.
    """

    train: CocoDataset
    val: CocoDataset
    content_hash: str
    test: CocoDataset | None = None
    test_hash: str | None = None
    grey_bits: int = 16
    held_out: bool = False


def read_splits(
    root: Path,
    settings: DataSettings,
    *,
    index_file: Path | None = None,
    on_progress: Progress | None = None,
    on_image: Callable[[Path], None] = lambda _: None,
    known_hash: str | None = None,
) -> Splits:
    """Read and check the data sets of a study, in the format of ``root``; every image is decoded once.

    Args:
        root: The data folder; paths in ``settings`` are relative to it.
        settings: The ``[data]`` table of a study file.
        index_file: File that stores hashes of the images' content, so that the next start decodes nothing.
        on_progress: Called after each decoded image.
        on_image: Called with each image file before any is decoded.
        known_hash: ``content_hash`` of the study, if it has begun: if groups are split image by image in it, they stay
            so.

    Raises:
        DataError: If a file or an image cannot be used, a split has no images or no objects, or two of them disagree on
            the categories or share images.
    """
    found, recognised = load_datasets(root, settings)
    for dataset in found.values():
        for image in dataset.images:
            on_image(image.path)
    for role, dataset in found.items():
        if role != "train":
            _refuse_other_categories(found["train"], dataset)
    loaded = {str(role): dataset for role, dataset in found.items()}
    index = ContentIndex(file=index_file, on_progress=on_progress)
    loaded, contents, grey_bits = read_images(loaded, index)
    decoded = [
        (image.path, content)
        for role, dataset in loaded.items()
        for image, content in zip(dataset.images, contents[role], strict=True)
    ]
    hashes = {path: content.digest for path, content in decoded}
    looks = {path: content.look for path, content in decoded}
    plain = {path for path, content in decoded if content.one_colour}
    train, test = loaded["train"], loaded.get("test")
    if "val" not in loaded:
        group_of = find_groups(train, index, looks) if settings.groups else None
        train, val = hold_out(train, hashes, settings.val_fraction, group_of, known_hash)
    else:
        val = loaded["val"]
        is_named = recognised.format == "coco" and not recognised.why
        _refuse_shared_images(train, val, hashes, plain, fix=_OR_SPLIT if is_named else "")
    _refuse_empty(train, "training")
    _refuse_empty(val, "validation")
    val = note_alike(val, train, looks, "validation")
    splits = Splits(
        train=train,
        val=val,
        content_hash=content_hash((train, val), hashes),
        grey_bits=grey_bits,
        held_out="val" not in loaded,
    )
    if test is None:
        return splits
    _refuse_shared_images(train, test, hashes, plain, roles=("training", "test"))
    _refuse_shared_images(val, test, hashes, plain, roles=("validation", "test"))
    _refuse_empty(test, "test")
    test = note_alike(test, train, looks, "test")
    return replace(splits, test=test, test_hash=content_hash((test,), hashes))


def load_apart(
    annotations: Path,
    images: Path | None = None,
    *,
    grey_bits: int,
    classes: Sequence[str] = (),
    drop_empty_boxes: bool = False,
    index_file: Path | None = None,
    on_progress: Progress | None = None,
) -> tuple[CocoDataset, str]:
    """Load and check a data set that belongs to no study; every image is decoded once.

    Args:
        annotations: A COCO annotation file, or a data folder in any format: its images for test, or else those for
            validation, or else all of them.
        images: The folder that ``file_name`` is relative to; by default that of the file. Nothing for a folder.
        grey_bits: Bits of the values of images with more than 8 bits a channel, as a detector was trained on them.
        classes: Names of the classes that there may be; Pascal VOC has no list, and names only those with objects.
        drop_empty_boxes: As in :func:`smnas_optuna.data.coco.load_coco`.
        index_file: As in :func:`read_splits`; another file than that of a study.
        on_progress: Called after each decoded image.

    Returns:
        The data set, and a hash of it as in ``Splits.content_hash``.

    Raises:
        DataError: If the file or an image cannot be used, or there are no objects.
    """
    if annotations.is_dir():
        given, _, format_ = load_one_split(annotations, ("test", "val", "train"), drop_empty_boxes=drop_empty_boxes)
        given = _with_classes(given, classes) if format_ == "voc" else given
    else:
        given = load_coco(annotations, images or annotations.parent, drop_empty_boxes=drop_empty_boxes)
    given = _without_group(given, classes)
    loaded = {"test": given}
    index = ContentIndex(file=index_file, on_progress=on_progress)
    read, contents, _ = read_images(loaded, index, grey_bits=grey_bits)
    dataset = read["test"]
    _refuse_empty(dataset, "given")
    pairs = zip(dataset.images, contents["test"], strict=True)
    return dataset, content_hash((dataset,), {image.path: content.digest for image, content in pairs})


def _without_group(dataset: CocoDataset, classes: Sequence[str]) -> CocoDataset:
    """Return a split of Roboflow's export without its category of all others, if it has no box and no class its name.

    In the whole export it is left out by what all splits say of it.
    """
    used = {int(label) for image in dataset.images for label in image.labels}
    names = dataset.category_names
    spare = [label for label, name in enumerate(names, start=1) if name not in classes and label not in used]
    if dataset.source.name != ROBOFLOW_FILE or len(spare) != 1 or len(names) != len(classes) + 1:
        return dataset
    (group,) = spare
    place = group - 1
    note = f"the category {quote(names[place])} has no box and is no class of the detector: left out"
    return replace(
        dataset,
        images=tuple(replace(each, labels=each.labels - (each.labels > group)) for each in dataset.images),
        category_ids=(*dataset.category_ids[:place], *dataset.category_ids[group:]),
        category_names=(*names[:place], *names[group:]),
        notes=(note, *dataset.notes),
    )


def _with_classes(dataset: CocoDataset, classes: Sequence[str]) -> CocoDataset:
    """Return ``dataset`` with categories for those of ``classes`` that it lacks, after its own."""
    missing = [name for name in classes if name not in dataset.category_names]
    first = 1 + max(dataset.category_ids)
    return replace(
        dataset,
        category_ids=(*dataset.category_ids, *range(first, first + len(missing))),
        category_names=(*dataset.category_names, *missing),
    )


def train_and_val(splits: Splits) -> CocoDataset:
    """Return one data set of the training and the validation images, in this order.

    Two annotation files may use the same ids, so images and annotations of the latter get new ones.
    """
    train, val = splits.train, splits.val
    first = 1 + max(image.image_id for image in train.images)
    ids = {image.image_id: first + number for number, image in enumerate(val.images)}
    owners = np.array([ids[image_id] for image_id in val.annotations.image_id.tolist()], np.int64)
    return replace(
        train,
        images=(*train.images, *(replace(image, image_id=ids[image.image_id]) for image in val.images)),
        annotations=train.annotations.and_then(val.annotations.with_images(owners)),
    )


def _refuse_empty(dataset: CocoDataset, role: str) -> None:
    if not has_objects(dataset):
        raise DataError(
            f"{dataset.source}: the {len(dataset.images)} {role} images have no box that is not a crowd region",
            fix=f"annotate objects in the {role} images{', or take these out of the data' if role == 'test' else ''}",
        )


def _refuse_other_categories(train: CocoDataset, other: CocoDataset) -> None:
    names = [dict(zip(split.category_ids, split.category_names, strict=True)) for split in (train, other)]
    ids = sorted(names[0].keys() | names[1].keys())
    same_form = [{key: unicodedata.normalize("NFC", name) for key, name in each.items()} for each in names]
    differ = [category_id for category_id in ids if same_form[0].get(category_id) != same_form[1].get(category_id)]
    if differ:
        said = [quote(name[differ[0]]) if differ[0] in name else "missing" for name in names]
        raise DataError(
            f"{other.source}: {len(differ)} of {len(ids)} categories differ from those of {train.source}",
            first=f"category {differ[0]} is {said[0]} in {train.source.name}, {said[1]} in {other.source.name}",
            fix="write the same list of categories into both files, also those that one of them does not use",
        )


_OR_SPLIT = ", or leave val out of [data] in study.toml: the training images are then split"


_NOT_WHOLE = "write these files of one colour anew, whole and on one scale with the others, or remove them"


def _refuse_shared_images(
    first: CocoDataset,
    second: CocoDataset,
    hashes: Mapping[Path, str],
    plain: AbstractSet[Path],
    *,
    roles: tuple[str, str] = ("training", "validation"),
    fix: str = "",
) -> None:
    """Check that no image is in both data sets.

    Args:
        first: A data set.
        second: Another one.
        hashes: Hash of the pixels of each image file.
        plain: Image files of one colour.
        roles: Names of the data sets.
        fix: The end of the advice.
    """
    in_first = {hashes[image.path]: image.path for image in first.images}
    shared = [image.path for image in second.images if hashes[image.path] in in_first]
    if shared:
        names = [second.source.name, first.source.name]
        if names[0] == names[1]:  # a file of each split, or one that names all of them
            names = [f"the {roles[1]} images", f"the {roles[0]} images"]
        remove = f"remove them from {' or from '.join(names)}{fix}"
        raise DataError(
            f"{second.source}: {len(shared)} of {len(second.images)} {roles[1]} images are {roles[0]} images too, "
            "by content",
            first=f"{quote_path(shared[0])} holds the same pixels as {quote_path(in_first[hashes[shared[0]]])}",
            fix=_NOT_WHOLE if plain >= set(shared) else remove,
        )
