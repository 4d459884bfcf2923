"""An image without boxes, for tests that look at its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smnas_optuna.data import ImageRecord


def make_record(path: Path, height: int, width: int) -> ImageRecord:
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return ImageRecord(image_id=1, path=path, height=height, width=width, boxes=boxes, labels=labels, crowd=crowd)
