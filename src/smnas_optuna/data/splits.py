"""The two data sets of a study: training and validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data.coco import CocoDataset, load_coco
from smnas_optuna.data.images import Progress, index_content
from smnas_optuna.data.quote import quote, quote_path
from smnas_optuna.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """Training and validation data with the same categories, and no image in both.

    Attributes:
        train: Has at least one box that is not a crowd region.
        val: As ``train``.
        content_hash: Of the annotations and pixels of both, wherever the files lie and in whatever order.
    """

    train: CocoDataset
    val: CocoDataset
    content_hash: str


def load_splits(
    root: Path, settings: DataSettings, *, index_file: Path | None = None, on_progress: Progress | None = None
) -> Splits:
    """The data sets that ``settings`` names, checked; every image is decoded once.

    Args:
        root: The data folder; paths in ``settings`` are relative to it.
        settings: The ``[data]`` table of a study file.
        index_file: Where hashes of the images' content are remembered, so that the next start decodes nothing.
        on_progress: Told about the images that are being decoded.

    Raises:
        DataError: If a file or an image cannot be used, a split has no images or no objects, or the two disagree on the
            categories or share images.
    """
    first = load_coco(root / settings.train, root / settings.images, drop_empty_boxes=settings.drop_empty_boxes)
    if settings.val is None:
        hashes = index_content(first.images, index_file, on_progress)
        train, val = _split(first, hashes, settings.val_fraction)
    else:
        train, val = first, _load_val(root, settings.val, settings)
        _refuse_other_categories(train, val)
        hashes = index_content((*train.images, *val.images), index_file, on_progress)
        _refuse_shared_images(train, val, hashes)
    _refuse_empty(train, "training")
    _refuse_empty(val, "validation")
    return Splits(train=train, val=val, content_hash=_content_hash(train, val, hashes))


def _load_val(root: Path, name: str, settings: DataSettings) -> CocoDataset:
    images = root / (settings.images if settings.val_images is None else settings.val_images)
    return load_coco(root / name, images, drop_empty_boxes=settings.drop_empty_boxes)


def _split(dataset: CocoDataset, hashes: Mapping[Path, str], fraction: float) -> tuple[CocoDataset, CocoDataset]:
    """(train, val): an image is set aside if its content hash, read as a number in [0, 1), is below ``fraction``."""
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
    return dataset.subset(train_ids), dataset.subset(val_ids)


def _refuse_empty(dataset: CocoDataset, role: str) -> None:
    if not any((~image.crowd).any() for image in dataset.images):
        raise DataError(
            f"{dataset.source}: the {len(dataset.images)} {role} images have no box that is not a crowd region",
            fix=f"annotate objects in the {role} images",
        )


def _refuse_other_categories(train: CocoDataset, val: CocoDataset) -> None:
    names = [dict(zip(split.category_ids, split.category_names, strict=True)) for split in (train, val)]
    ids = sorted(names[0].keys() | names[1].keys())
    differ = [category_id for category_id in ids if names[0].get(category_id) != names[1].get(category_id)]
    if differ:
        said = [quote(name[differ[0]]) if differ[0] in name else "missing" for name in names]
        raise DataError(
            f"{val.source}: {len(differ)} of {len(ids)} categories differ from those of {train.source}",
            first=f"category {differ[0]} is {said[0]} in {train.source.name}, {said[1]} in {val.source.name}",
            fix="write the same list of categories into both files, also those that one of them does not use",
        )


def _refuse_shared_images(train: CocoDataset, val: CocoDataset, hashes: Mapping[Path, str]) -> None:
    in_train = {hashes[image.path]: image.path for image in train.images}
    shared = [image.path for image in val.images if hashes[image.path] in in_train]
    if shared:
        raise DataError(
            f"{val.source}: {len(shared)} of {len(val.images)} validation images are training images too, by content",
            first=f"{quote_path(shared[0])} holds the same pixels as {quote_path(in_train[hashes[shared[0]]])}",
            fix=f"take them out of {val.source.name} or of {train.source.name}, "
            "or leave val out of [data] in study.toml: the training images are then split",
        )


def _content_hash(train: CocoDataset, val: CocoDataset, hashes: Mapping[Path, str]) -> str:
    categories = sorted(zip(train.category_ids, train.category_names, strict=True))
    content = [categories, _contents(train, hashes), _contents(val, hashes)]
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _contents(dataset: CocoDataset, hashes: Mapping[Path, str]) -> Sequence[object]:
    """Each image's pixels and annotations, in an order that the order in the file does not change."""
    by_image: dict[int, list[list[object]]] = {image.image_id: [] for image in dataset.images}
    for row in dataset.annotations:
        numbers = [float(number) for number in (*row["bbox"], row["area"])]
        by_image[row["image_id"]].append([row["category_id"], row["iscrowd"], *numbers])
    return sorted([hashes[image.path], sorted(by_image[image.image_id])] for image in dataset.images)
