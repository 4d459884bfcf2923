"""The data sets of a study: training, validation, and a test set that the search never uses."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data.alike import note_alike
from smnas_optuna.data.coco import CocoDataset, load_coco
from smnas_optuna.data.content import ContentIndex
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.data.groups import choose_groups, groups_by_name, needs_looks
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
    """

    train: CocoDataset
    val: CocoDataset
    content_hash: str
    test: CocoDataset | None = None
    test_hash: str | None = None
    grey_bits: int = 16


def load_splits(
    root: Path,
    settings: DataSettings,
    *,
    index_file: Path | None = None,
    on_progress: Progress | None = None,
    known_hash: str | None = None,
) -> Splits:
    """Load and check the data sets of a study, in the format of ``root``; every image is decoded once.

    Args:
        root: The data folder; paths in ``settings`` are relative to it.
        settings: The ``[data]`` table of a study file.
        index_file: File that stores hashes of the images' content, so that the next start decodes nothing.
        on_progress: Called after each decoded image.
        known_hash: ``content_hash`` of the study, if it has begun: if groups are split image by image in it, they stay
            so.

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
    decoded = [
        (image.path, content)
        for role, dataset in loaded.items()
        for image, content in zip(dataset.images, contents[role], strict=True)
    ]
    hashes = {path: content.digest for path, content in decoded}
    looks = {path: content.look for path, content in decoded}
    train, test = loaded["train"], loaded.get("test")
    if "val" not in loaded:
        group_of = _groups(train, index, looks) if settings.groups else None
        train, val = _split_groups(train, hashes, settings.val_fraction, group_of, known_hash)
    else:
        val = loaded["val"]
        _refuse_shared_images(train, val, hashes, fix=_OR_SPLIT if recognised.format == "coco" else "")
    _refuse_empty(train, "training")
    _refuse_empty(val, "validation")
    val = note_alike(val, train, looks, "validation")
    splits = Splits(train=train, val=val, content_hash=_content_hash((train, val), hashes), grey_bits=grey_bits)
    if test is None:
        return splits
    _refuse_shared_images(train, test, hashes, roles=("training", "test"))
    _refuse_shared_images(val, test, hashes, roles=("validation", "test"))
    _refuse_empty(test, "test")
    test = note_alike(test, train, looks, "test")
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


def _groups(dataset: CocoDataset, index: ContentIndex, looks: Mapping[Path, int | None]) -> Mapping[Path, str] | None:
    """Return the group of each image; None if the file names do not tell of any."""
    paths = [image.path for image in dataset.images]
    if needs_looks(paths) and any(looks[path] is None for path in paths):  # in the index of an older version
        read = index.read(dataset.images, with_looks=True)
        looks = {path: content.look for path, content in zip(paths, read, strict=True)}
    return groups_by_name(paths, looks)


def _split_groups(
    dataset: CocoDataset,
    hashes: Mapping[Path, str],
    fraction: float,
    group_of: Mapping[Path, str] | None,
    known_hash: str | None,
) -> tuple[CocoDataset, CocoDataset]:
    """Return (train, val) of whole groups, or else image by image; all notes are with the former."""
    aside = None if group_of is None else choose_groups(group_of, hashes, fraction)
    if group_of is None or aside is None:
        return _split(dataset, hashes, fraction)
    train, val = _set_aside(dataset, aside)
    if not (_has_objects(train) and _has_objects(val)):
        return _split(dataset, hashes, fraction)
    if known_hash is not None and _content_hash((train, val), hashes) != known_hash:
        plain = _split(dataset, hashes, fraction)
        if _content_hash(plain, hashes) == known_hash:  # a study of an older version
            note = "groups by file names are split image by image, as they were when the study began"
            return replace(plain[0], notes=(*plain[0].notes, note)), plain[1]
    names = {group_of[path] for path in aside}
    note = (
        f"validation images are whole groups by file names: {len(names)} of {len(set(group_of.values()))} groups, "
        f"{len(val.images)} of {len(dataset.images)} images, first {quote(min(names))}; groups = false in [data] of "
        "study.toml splits image by image"
    )
    return replace(train, notes=(*train.notes, note)), val


def _set_aside(dataset: CocoDataset, aside: Collection[Path]) -> tuple[CocoDataset, CocoDataset]:
    val_ids = {image.image_id for image in dataset.images if image.path in aside}
    train_ids = {image.image_id for image in dataset.images} - val_ids
    return dataset.subset(train_ids), replace(dataset.subset(val_ids), notes=())  # notes are those of the file


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
    return _set_aside(dataset, {image.path for image in dataset.images if hashes[image.path] in aside})


def _has_objects(dataset: CocoDataset) -> bool:
    return any((~image.crowd).any() for image in dataset.images)


def _refuse_empty(dataset: CocoDataset, role: str) -> None:
    if not _has_objects(dataset):
        raise DataError(
            f"{dataset.source}: the {len(dataset.images)} {role} images have no box that is not a crowd region",
            fix=f"annotate objects in the {role} images",
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
