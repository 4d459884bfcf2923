"""The data of a study at the start of a process: read and checked once, and kept for every later start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from filelock import FileLock

from smnas_optuna import data, runtime
from smnas_optuna.config import DataSettings
from smnas_optuna.data.checked_file import Identity, identity_of, read_checked, write_checked
from smnas_optuna.data.coco import ImageRecord
from smnas_optuna.data.formats import annotation_files, recognise
from smnas_optuna.data.formats.split_names import folders_in
from smnas_optuna.data.images import Progress
from smnas_optuna.data.lock import acquire
from smnas_optuna.data.splits import Splits, read_splits
from smnas_optuna.data.tree_identity import tree_identity


def load_splits(
    root: Path,
    settings: DataSettings,
    *,
    cache: Path | None = None,
    on_progress: Progress = lambda *_: None,
    known_hash: str | None = None,
) -> Splits:
    """Load and check the data sets of a study, in the format of ``root``; every image is decoded once.

    Args:
        root: The data folder; paths in ``settings`` are relative to it.
        settings: The ``[data]`` table of a study file.
        cache: Folder that keeps what is checked, so that the next start decodes nothing, and reads no annotation file
            that has not changed. Of several processes that start together one works, and the others wait for it.
        on_progress: Called with (images decoded, all images); may raise to stop.
        known_hash: As in :func:`smnas_optuna.data.splits.read_splits`.

    Raises:
        DataError: If a file or an image cannot be used, a split has no images or no objects, or two of them disagree on
            the categories or share images.
    """
    if cache is None:
        return read_splits(root, settings, on_progress=on_progress, known_hash=known_hash)
    index_file = cache / "images.json"
    read = partial(read_splits, root, settings, index_file=index_file, on_progress=on_progress, known_hash=known_hash)
    if (key := _key(root, settings)) is None:
        return read()
    file = cache / f"data-{blake2b(os.fsencode(root.resolve()), digest_size=4).hexdigest()}.arrays"
    if (kept := _read(file, key, root, known_hash)) is not None:
        return kept
    with _alone(cache / "data.lock", on_progress):
        if (kept := _read(file, key, root, known_hash)) is not None:  # another process has checked them meanwhile
            return kept
        identities: dict[Path, Identity] = {}

        def identify(image: Path) -> None:
            with suppress(OSError):  # what is gone is reported by what decodes it
                identities[image] = identity_of(image)

        splits = read(on_image=identify)
        if all(image.path in identities for image in _images(splits)):  # one may have come back meanwhile
            _write(file, key, root, splits, identities, known_hash)
        return splits


def _key(root: Path, settings: DataSettings) -> str | None:
    """Return a text that changes with what the splits depend on, but for the images; None if that cannot be told."""
    recognised = recognise(root, settings)
    files = annotation_files(root, settings, recognised)
    try:
        identities = [(str(file), *identity_of(file)) for file in files or ()]
    except OSError:  # reported by what reads it
        return None
    tree = tree_identity(root) if files is None else ""
    if tree is None:
        return None
    code = sorted(path for room in (data, runtime) for path in Path(str(room.__file__)).parent.rglob("*.py"))
    digest = blake2b(b"".join(path.read_bytes() for path in code), digest_size=16).hexdigest()
    key = [str(root.absolute()), recognised.format, recognised.why, settings.model_dump(mode="json"), identities, tree]
    return json.dumps([*key, digest])


def _read(file: Path, key: str, root: Path, known_hash: str | None) -> Splits | None:
    """Return what is kept, if it is the data that the study began with, or was read for a study with this hash."""
    kept = read_checked(file, key)
    if kept is None:
        return None
    datasets, values = kept
    read_for, places = values.pop("known_hash"), values.pop("places")
    if known_hash not in (read_for, values["content_hash"]) or places != _places(root, places["times"]):
        return None
    return Splits(train=datasets["train"], val=datasets["val"], test=datasets.get("test"), **values)


def _images(splits: Splits) -> Iterator[ImageRecord]:
    for dataset in (splits.train, splits.val, splits.test):
        yield from () if dataset is None else dataset.images


def _places(root: Path, folders: Iterable[str]) -> dict[str, Any]:
    """Return what changes if a name may mean another file by now: folders in ``root``, times of image folders."""
    times = {folder: Path(folder).stat().st_mtime_ns if Path(folder).is_dir() else None for folder in folders}
    return {"inside": [folder.name for folder in folders_in(root)], "times": times}


def _write(
    file: Path, key: str, root: Path, splits: Splits, identities: Mapping[Path, Identity], known_hash: str | None
) -> None:
    datasets = {"train": splits.train, "val": splits.val, **({} if splits.test is None else {"test": splits.test})}
    values = {name: getattr(splits, name) for name in ("content_hash", "test_hash", "grey_bits", "held_out")}
    folders = {str(image.path.parent) for image in _images(splits)}
    values |= {"known_hash": known_hash, "places": _places(root, folders)}
    write_checked(file, key, datasets, values, identities)


@contextmanager
def _alone(path: Path, on_progress: Progress) -> Iterator[None]:
    """Hold a lock; where no file can be locked, go on without, as the work is the same."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        acquire(lock, on_progress)
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()
