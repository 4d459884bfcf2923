"""The data sets of a study: training, validation, and a test set that the search never uses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data.coco import CocoDataset, load_coco
from smnas_optuna.data.content import ContentIndex
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.data.images import Progress
from smnas_optuna.data.reading import read_images
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_path


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """Training, validation and optional test data with the same categories; no image is in two of them.

    Attributes:
        train: Has at least one box that is not a crowd region.
        val: As ``train``.
        content_hash: Hash of the annotations and pixels of ``train`` and ``val``, independent of paths and order.
        test: As ``train``, used by no search; None if the study names none.
        test_hash: Hash of ``test`` as in ``content_hash``; no search depends on it.
        grey_bits: Bits of the values of grey images with more than 8 bits, 8..16; 16 if there are none.
        held_out: True if ``val`` is a part of what the data folder has for training.
    """

    train: CocoDataset
    val: CocoDataset
    content_hash: str
    test: CocoDataset | None = None
    test_hash: str | None = None
    grey_bits: int = 16
    held_out: bool = False


def load_splits(
    root: Path, settings: DataSettings, *, index_file: Path | None = None, on_progress: Progress | None = None
) -> Splits:
    """Load and check the data sets of a study, in the format of ``root``; every image is decoded once.

    Args:
        root: The data folder; paths in ``settings`` are relative to it.
        settings: The ``[data]`` table of a study file.
        index_file: File that stores hashes of the images' content, so that the next start decodes nothing.
        on_progress: Called after each decoded image.

    Raises:
        DataError: If a file or an image cannot be used, a split has no images or no objects, or two of them disagree on
            the categories or share images.
    """
    found, recognised = load_datasets(root, settings)
    for role, dataset in found.items():
        if role != "train":
            _refuse_other_categories(found["train"], dataset)
    loaded = {str(role): dataset for role, dataset in found.items()}
    index = ContentIndex(file=index_file, on_progress=on_progress)
    loaded, contents, grey_bits = read_images(loaded, index)
    hashes = {
        image.path: content.digest
        for role, dataset in loaded.items()
        for image, content in zip(dataset.images, contents[role], strict=True)
    }
    train, test = loaded["train"], loaded.get("test")
    if "val" not in loaded:
        train, val = _split(train, hashes, settings.val_fraction)
    else:
        val = loaded["val"]
        _refuse_shared_images(train, val, hashes, fix=_OR_SPLIT if recognised.format == "coco" else "")
    _refuse_empty(train, "training")
    _refuse_empty(val, "validation")
    splits = Splits(
        train=train,
        val=val,
        content_hash=_content_hash((train, val), hashes),
        grey_bits=grey_bits,
        held_out="val" not in loaded,
    )
    if test is None:
        return splits
    _refuse_shared_images(train, test, hashes, roles=("training", "test"))
    _refuse_shared_images(val, test, hashes, roles=("validation", "test"))
    _refuse_empty(test, "test")
    return replace(splits, test=test, test_hash=_content_hash((test,), hashes))


def load_apart(
    annotations: Path,
    images: Path,
    *,
    grey_bits: int,
    drop_empty_boxes: bool = False,
    index_file: Path | None = None,
    on_progress: Progress | None = None,
) -> tuple[CocoDataset, str]:
    """Load and check a data set that belongs to no study; every image is decoded once.

    Args:
        annotations: A COCO annotation file.
        images: The folder that ``file_name`` is relative to.
        grey_bits: Bits of the values of grey images with more than 8 bits, as a detector was trained on them.
        drop_empty_boxes: As in :func:`smnas_optuna.data.coco.load_coco`.
        index_file: As in :func:`load_splits`; another file than that of a study.
        on_progress: Called after each decoded image.

    Returns:
        The data set, and a hash of it as in ``Splits.content_hash``.

    Raises:
        DataError: If the file or an image cannot be used, or there are no objects.
    """
    loaded = {"test": load_coco(annotations, images, drop_empty_boxes=drop_empty_boxes)}
    index = ContentIndex(file=index_file, on_progress=on_progress)
    read, contents, _ = read_images(loaded, index, grey_bits=grey_bits)
    dataset = read["test"]
    _refuse_empty(dataset, "given")
    pairs = zip(dataset.images, contents["test"], strict=True)
    return dataset, _content_hash((dataset,), {image.path: content.digest for image, content in pairs})


def train_and_val(splits: Splits) -> CocoDataset:
    """Return one data set of the training and the validation images, in this order.

    Two annotation files may use the same ids, so images and annotations of the latter get new ones.
    """
    train, val = splits.train, splits.val
    first = 1 + max(image.image_id for image in train.images)
    ids = {image.image_id: first + number for number, image in enumerate(val.images)}
    rows = [*train.annotations, *({**row, "image_id": ids[row["image_id"]]} for row in val.annotations)]
    return replace(
        train,
        images=(*train.images, *(replace(image, image_id=ids[image.image_id]) for image in val.images)),
        annotations=tuple({**row, "id": number} for number, row in enumerate(rows, start=1)),
    )


def _split(dataset: CocoDataset, hashes: Mapping[Path, str], fraction: float) -> tuple[CocoDataset, CocoDataset]:
    """Return (train, val), all notes with the former.

    An image is for validation if its hash, as a number in [0, 1), is below ``fraction``.
    """
    contents = sorted(set(hashes.values()))
    if len(contents) < 2:
        raise DataError(
            f"{dataset.source}: {len(dataset.images)} images with {len(contents)} different content cannot be split",
            fix="add images, or name a validation file: val in [data] of study.toml",
        )
    num_val = sum(int(content, 16) / 16 ** len(content) < fraction for content in contents)
    aside = set(contents[: min(max(num_val, 1), len(contents) - 1)])
    val_ids = {image.image_id for image in dataset.images if hashes[image.path] in aside}
    train_ids = {image.image_id for image in dataset.images} - val_ids
    return dataset.subset(train_ids), replace(dataset.subset(val_ids), notes=())  # notes are those of the file


def _refuse_empty(dataset: CocoDataset, role: str) -> None:
    if not any((~image.crowd).any() for image in dataset.images):
        raise DataError(
            f"{dataset.source}: the {len(dataset.images)} {role} images have no box that is not a crowd region",
            fix=f"annotate objects in the {role} images",
        )


def _refuse_other_categories(train: CocoDataset, other: CocoDataset) -> None:
    names = [dict(zip(split.category_ids, split.category_names, strict=True)) for split in (train, other)]
    ids = sorted(names[0].keys() | names[1].keys())
    differ = [category_id for category_id in ids if names[0].get(category_id) != names[1].get(category_id)]
    if differ:
        said = [quote(name[differ[0]]) if differ[0] in name else "missing" for name in names]
        raise DataError(
            f"{other.source}: {len(differ)} of {len(ids)} categories differ from those of {train.source}",
            first=f"category {differ[0]} is {said[0]} in {train.source.name}, {said[1]} in {other.source.name}",
            fix="write the same list of categories into both files, also those that one of them does not use",
        )


_OR_SPLIT = ", or leave val out of [data] in study.toml: the training images are then split"


def _refuse_shared_images(
    first: CocoDataset,
    second: CocoDataset,
    hashes: Mapping[Path, str],
    *,
    roles: tuple[str, str] = ("training", "validation"),
    fix: str = "",
) -> None:
    """Check that no image is in both data sets; ``roles`` are their names, ``fix`` ends the advice."""
    in_first = {hashes[image.path]: image.path for image in first.images}
    shared = [image.path for image in second.images if hashes[image.path] in in_first]
    if shared:
        raise DataError(
            f"{second.source}: {len(shared)} of {len(second.images)} {roles[1]} images are {roles[0]} images too, "
            "by content",
            first=f"{quote_path(shared[0])} holds the same pixels as {quote_path(in_first[hashes[shared[0]]])}",
            fix=f"remove them from {second.source.name} or from {first.source.name}{fix}",
        )


def _content_hash(datasets: Sequence[CocoDataset], hashes: Mapping[Path, str]) -> str:
    categories = sorted(zip(datasets[0].category_ids, datasets[0].category_names, strict=True))
    content = [categories, *(_contents(dataset, hashes) for dataset in datasets)]
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _contents(dataset: CocoDataset, hashes: Mapping[Path, str]) -> Sequence[object]:
    """Return each image's content hash and annotations, in an order independent of the file's."""
    by_image: dict[int, list[list[object]]] = {image.image_id: [] for image in dataset.images}
    for row in dataset.annotations:
        numbers = [float(number) for number in (*row["bbox"], row["area"])]
        by_image[row["image_id"]].append([row["category_id"], row["iscrowd"], *numbers])
    return sorted([hashes[image.path], sorted(by_image[image.image_id])] for image in dataset.images)
