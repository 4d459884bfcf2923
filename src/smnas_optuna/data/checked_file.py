"""The checked data of a study in one file, so that a later start reads no annotation and decodes no image.

At COCO's size a start without it takes half a minute and gigabytes, in each process of a search.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data.annotations import Annotations
from smnas_optuna.data.coco import CocoDataset, ImageRecord
from smnas_optuna.real_files import check_regular_file

Arrays = dict[str, Any]

_ABOUT = "about"
_DIGEST_BYTES = 16
_SEPARATOR = "\0"  # no file name contains it

Identity = tuple[int, int, int, int]


def read_checked(file: Path, key: str) -> tuple[dict[str, CocoDataset], dict[str, Any]] | None:
    """Return the data sets by role, and the values, that :func:`write_checked` kept.

    Returns:
        None if there is no such file, it is damaged or has another ``key``, or an image file was changed or is gone.
    """
    content = _whole(file)
    if content is None:
        return None
    try:
        return _read(content, key)
    except (EOFError, IndexError, KeyError, TypeError, ValueError, BadZipFile):  # of another program
        return None


def _read(content: bytes, key: str) -> tuple[dict[str, CocoDataset], dict[str, Any]] | None:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        about = json.loads(stored[_ABOUT].tobytes())
        if about["key"] != key:
            return None
        datasets = {}
        for role, words in about["datasets"].items():
            arrays = {name.partition(".")[2]: stored[name] for name in stored.files if name.startswith(f"{role}.")}
            paths = os.fsdecode(arrays.pop("paths").tobytes()).split(_SEPARATOR)
            if not _unchanged(paths, arrays.pop("identities")):
                return None
            datasets[role] = _dataset(words, paths, arrays)
    return datasets, about["values"]


def _whole(file: Path) -> bytes | None:
    """Return what :func:`write_checked` wrote behind its hash; None if there is nothing, or not every byte of it."""
    try:
        check_regular_file(file)
        with file.open("rb") as stream:
            digest, content = stream.read(_DIGEST_BYTES), stream.read()
    except OSError:
        return None
    return content if _digest(content) == digest else None


def _digest(content: bytes | memoryview) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def write_checked(
    file: Path,
    key: str,
    datasets: Mapping[str, CocoDataset],
    values: Mapping[str, Any],
    identities: Mapping[Path, Identity],
) -> None:
    """Keep ``datasets`` by role, and ``values`` (JSON), in ``file``; nothing is kept where it cannot be written.

    Args:
        file: The file.
        key: Text that changes with whatever the data sets depend on, but for their image files.
        datasets: The data sets.
        values: What is known of them besides.
        identities: :func:`identity_of` each image file before it was decoded.
    """
    words = {
        role: {
            "source": str(each.source),
            "category_ids": each.category_ids,
            "category_names": each.category_names,
            "notes": each.notes,
        }
        for role, each in datasets.items()
    }
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        try:
            arrays: Arrays = {
                f"{role}.{name}": array
                for role, each in datasets.items()
                for name, array in _arrays(each, identities).items()
            }
            about = json.dumps({"key": key, "datasets": words, "values": values}).encode()
            arrays[_ABOUT] = np.frombuffer(about, np.uint8)
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)  # it may be a link to elsewhere
            content = io.BytesIO()
            np.savez(content, **arrays)
            with temporary.open("xb") as stream:
                stream.write(_digest(content.getbuffer()))
                stream.write(content.getbuffer())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def identity_of(path: str | Path) -> Identity:
    """Return size, times of modification and of change, and number of a file: one changes when its content does.

    The time of change is the system's: whoever writes a file can give it back its time of modification, not this one.
    It also changes with the owner, the permissions and the links of a file, which is then read again for nothing.

    Raises:
        OSError: If it is not there.
    """
    stat = os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 images costs more than its file
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _arrays(dataset: CocoDataset, identities: Mapping[Path, Identity]) -> Arrays:
    images = dataset.images
    paths = os.fsencode(_SEPARATOR.join(str(image.path) for image in images))
    owned = ("boxes", "labels", "crowd")
    return {
        "paths": np.frombuffer(paths, np.uint8),
        "identities": np.array([identities[image.path] for image in images], np.int64),
        "image_id": np.array([image.image_id for image in images], np.int64),
        "size": np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        "grey_bits": np.array([image.grey_bits for image in images], np.int64),
        "turned": np.array([image.turned for image in images], np.bool_),
        "ends": np.cumsum([len(image.boxes) for image in images], dtype=np.int64),
        **{name: np.concatenate([getattr(image, name) for image in images]) for name in owned},
        **{f"annotations.{each.name}": getattr(dataset.annotations, each.name) for each in fields(Annotations)},
    }


def _dataset(words: Mapping[str, Any], paths: Sequence[str], arrays: Arrays) -> CocoDataset:
    ends = arrays["ends"].tolist()
    starts = [0, *ends[:-1]]
    columns = (arrays[name].tolist() for name in ("image_id", "size", "grey_bits", "turned"))
    boxes, labels, crowd = arrays["boxes"], arrays["labels"], arrays["crowd"]
    images = tuple(
        ImageRecord(
            image_id=image_id,
            path=Path(path),
            height=size[0],
            width=size[1],
            boxes=boxes[start:end],
            labels=labels[start:end],
            crowd=crowd[start:end],
            grey_bits=grey_bits,
            turned=turned,
        )
        for path, start, end, image_id, size, grey_bits, turned in zip(paths, starts, ends, *columns, strict=True)
    )
    return CocoDataset(
        source=Path(words["source"]),
        images=images,
        category_ids=tuple(words["category_ids"]),
        category_names=tuple(words["category_names"]),
        annotations=Annotations(**{each.name: arrays[f"annotations.{each.name}"] for each in fields(Annotations)}),
        notes=tuple(words["notes"]),
    )


def _unchanged(paths: Sequence[str], identities: NDArray[np.int64]) -> bool:
    try:
        return np.array_equal(np.array([identity_of(path) for path in paths], np.int64), identities)
    except OSError:  # reported by what reads it
        return False
