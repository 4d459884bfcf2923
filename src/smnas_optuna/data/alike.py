"""Notes on images that look like those of another split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from smnas_optuna.data.coco import CocoDataset
from smnas_optuna.data.look import find_alike
from smnas_optuna.quote import quote_path


def note_alike(dataset: CocoDataset, train: CocoDataset, looks: Mapping[Path, int | None], role: str) -> CocoDataset:
    """Return ``dataset`` with a note if any of its images look like one of ``train``.

    Args:
        dataset: The images of another split.
        train: The training images.
        looks: What images look like; those that have None are left out.
        role: Name of ``dataset`` in the note.
    """
    some, others = (
        [(image.path, look) for image in each.images if (look := looks[image.path]) is not None]
        for each in (dataset, train)
    )
    alike = find_alike([look for _, look in some], [look for _, look in others])
    if not alike:
        return dataset
    position, other = next(iter(alike.items()))
    first = f"first {quote_path(some[position][0])} like {quote_path(others[other][0])}"
    note = (
        f"{len(alike)} of {len(dataset.images)} {role} images look like training images ({first}): AP on them says "
        "little about images of new scenes"
    )
    return replace(dataset, notes=(*dataset.notes, note))
