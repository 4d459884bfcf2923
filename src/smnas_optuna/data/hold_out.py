"""One data set -> training and validation images: whole groups of them where file names tell of any."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from smnas_optuna.data.coco import CocoDataset
from smnas_optuna.data.content import ContentIndex
from smnas_optuna.data.content_hash import content_hash
from smnas_optuna.data.groups import choose_groups, groups_by_name, needs_looks
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote


def find_groups(
    dataset: CocoDataset, index: ContentIndex, looks: Mapping[Path, int | None]
) -> Mapping[Path, str] | None:
    """Return the group of each image; None if the file names do not tell of any."""
    paths = [image.path for image in dataset.images]
    if needs_looks(paths) and any(looks[path] is None for path in paths):  # in the index of an older version
        read = index.read(dataset.images, with_looks=True)
        looks = {path: content.look for path, content in zip(paths, read, strict=True)}
    return groups_by_name(paths, looks)


def hold_out(
    dataset: CocoDataset,
    hashes: Mapping[Path, str],
    fraction: float,
    group_of: Mapping[Path, str] | None,
    known_hash: str | None,
) -> tuple[CocoDataset, CocoDataset]:
    """Return (train, val) of whole groups, or else image by image; all notes are with the former.

    Args:
        dataset: All images.
        hashes: Hash of the pixels of each image file.
        fraction: Share of the images that is for validation, in (0, 1).
        group_of: Group of each image file; None for no groups.
        known_hash: As in :func:`smnas_optuna.data.splits.read_splits`.

    Raises:
        DataError: If all images have the same content.
    """
    if group_of is None:
        return _split(dataset, hashes, fraction)
    aside = choose_groups(group_of, hashes, fraction)
    if aside is None:
        return _split(dataset, hashes, fraction, but="as images with the same pixels join all of them")
    train, val = _set_aside(dataset, aside)
    if not (has_objects(train) and has_objects(val)):
        return _split(dataset, hashes, fraction, but="as whole groups would leave a part without objects")
    if known_hash is not None and content_hash((train, val), hashes) != known_hash:
        plain = _split(dataset, hashes, fraction, but="as they were when the study began")
        if content_hash(plain, hashes) == known_hash:  # a study of an older version
            return plain
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


def _split(
    dataset: CocoDataset, hashes: Mapping[Path, str], fraction: float, *, but: str | None = None
) -> tuple[CocoDataset, CocoDataset]:
    """Return (train, val), all notes with the former.

    An image is for validation if its hash, as a number in [0, 1), is below ``fraction``; but both parts get an image,
    and one with objects if there are two. A note says why groups are split, if ``but`` does.
    """
    contents = sorted({hashes[image.path] for image in dataset.images})
    if len(contents) < 2:
        raise DataError(
            f"{dataset.source}: {len(dataset.images)} images with {len(contents)} different content cannot be split",
            fix="add images, or name a validation file: val in [data] of study.toml",
        )
    num_val = sum(int(content, 16) / 16 ** len(content) < fraction for content in contents)
    aside = set(contents[: min(max(num_val, 1), len(contents) - 1)])
    with_objects = sorted({hashes[image.path] for image in dataset.images if (~image.crowd).any()})
    if len(with_objects) > 1 and aside.isdisjoint(with_objects):
        aside.add(with_objects[0])
    elif len(with_objects) > 1 and aside.issuperset(with_objects):
        aside.remove(with_objects[-1])
    notes = () if but is None else (f"groups by file names are split image by image, {but}",)
    dataset = replace(dataset, notes=(*dataset.notes, *notes))
    return _set_aside(dataset, {image.path for image in dataset.images if hashes[image.path] in aside})


def has_objects(dataset: CocoDataset) -> bool:
    """Return whether there is a box that is not a crowd region."""
    return any((~image.crowd).any() for image in dataset.images)
