"""Images without boxes: their records, pixels and hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data import ImageRecord
from smnas_optuna.data.content import ContentIndex
from smnas_optuna.data.images import Progress, decode


def make_record(path: Path, height: int, width: int) -> ImageRecord:
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return ImageRecord(image_id=1, path=path, height=height, width=width, boxes=boxes, labels=labels, crowd=crowd)


def decode_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    return decode(make_record(path, height, width)).pixels


def index_content(
    records: Sequence[ImageRecord], index_file: Path | None, on_progress: Progress | None = None
) -> dict[Path, str]:
    """Return the digests of images, by path."""
    contents = ContentIndex(file=index_file, on_progress=on_progress).read(records)
    return {record.path: content.digest for record, content in zip(records, contents, strict=True)}
