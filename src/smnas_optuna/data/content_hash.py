"""A hash of annotations and pixels, independent of paths and order: the identity of a study's data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import numpy as np

from smnas_optuna.data.coco import CocoDataset


def content_hash(datasets: Sequence[CocoDataset], hashes: Mapping[Path, str]) -> str:
    """Return a hash of the annotations and pixels of ``datasets``, hexadecimal.

    It is that of the JSON list of the categories and, for each data set, of its :func:`_contents`.

    The text is hashed in parts, as the whole of it takes gigabytes at COCO's size.

    Args:
        datasets: Data sets of the same categories.
        hashes: Hash of the pixels of each image file.
    """
    digest = blake2b(b"[", digest_size=16)
    categories = sorted(zip(datasets[0].category_ids, datasets[0].category_names, strict=True))
    digest.update(json.dumps(categories).encode())
    for dataset in datasets:
        digest.update(b", [")
        for place, image in enumerate(_contents(dataset, hashes)):
            digest.update((", " if place else "").encode() + image.encode())
        digest.update(b"]")
    digest.update(b"]")
    return digest.hexdigest()


def _contents(dataset: CocoDataset, hashes: Mapping[Path, str]) -> Iterator[str]:
    """Yield the JSON text of each image's content hash and annotations, in an order independent of the file's."""
    rows = dataset.annotations
    order = np.argsort(rows.image_id, kind="stable")
    starts = np.searchsorted(rows.image_id[order], [image.image_id for image in dataset.images], side="left")
    ends = np.searchsorted(rows.image_id[order], [image.image_id for image in dataset.images], side="right")

    def annotations(place: int) -> list[list[object]]:
        of_image = order[starts[place] : ends[place]]
        columns = (rows.category_id, rows.iscrowd, *rows.bbox.T, rows.area)
        return sorted(map(list, zip(*(values[of_image].tolist() for values in columns), strict=True)))

    places = sorted(range(len(dataset.images)), key=lambda place: hashes[dataset.images[place].path])
    for digest, same in groupby(places, key=lambda place: hashes[dataset.images[place].path]):
        for content in sorted(map(annotations, same)):  # copies of an image come in the order of their annotations
            yield json.dumps([digest, content])
