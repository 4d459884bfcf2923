"""Exported detectors in ONNX Runtime, beside the detectors that they were exported from."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from smnas_optuna.batch import Batch, canvas_size
from smnas_optuna.export import export_detector
from smnas_optuna.models import Detector

from ..models.tiny_detectors import ready
from ..runtime.exported_files import DESCRIPTION

TIE = 1e-4
"""Scores that are nearer than this may change places."""


@cache
def exported(arch: str) -> bytes:
    """The exported file of a small detector."""
    return export_detector(ready(arch), DESCRIPTION)


def run(content: bytes, batch: Batch, *, fixed: bool = True) -> list[Any]:
    """The outputs of an exported detector; with ``fixed`` the session knows all shapes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    shape = batch.images.shape
    if fixed:
        for name, size in (("batch", shape[0]), ("height", shape[2]), ("width", shape[3])):
            options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": batch.images.numpy(), "sizes": batch.sizes.numpy()}))


def on_canvas(batch: Batch) -> Batch:
    """The same images, whose boxes stay in pixels of the canvas."""
    return replace(batch, original_sizes=batch.sizes)


def noise(detector: Detector, sizes: list[tuple[int, int]], *, portrait: bool = False, seed: int = 0) -> Batch:
    """Noise images of ``sizes`` (height, width) on a canvas of the detector."""
    height, width = canvas_size(detector.long, detector.short, portrait=portrait)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (len(sizes), 3, height, width), generator=generator, dtype=torch.uint8)
    given, labels = torch.tensor(sizes), torch.zeros(len(sizes), 0, dtype=torch.int64)
    zeros = torch.zeros(len(sizes), dtype=torch.int64)
    return Batch(
        images=pixels,
        boxes=torch.zeros(len(sizes), 0, 4),
        labels=labels,
        crowd=labels.bool(),
        num_boxes=zeros,
        image_ids=zeros,
        sizes=given,
        original_sizes=given,
        seeds=zeros,
    )


def assert_same(outputs: list[Any], expected: list[dict[str, Tensor]]) -> int:
    """All that is more than a tie above the lowest score has its like; the number of detections that were compared."""
    boxes, labels, scores, counts = outputs
    compared = 0
    assert (counts == [len(each["scores"]) for each in expected]).all()
    for image, its in enumerate(expected):
        count = counts[image]
        for array in (boxes, labels, scores):
            assert not array[image, count:].any()
        np.testing.assert_allclose(scores[image, :count], its["scores"], atol=1e-4)
        assert (np.diff(scores[image]) <= 0).all()
        full = count == scores.shape[1]
        sure = its["scores"].numpy() > (scores[image].min() + TIE if full else -1)
        alike = (np.abs(boxes[image, :count, None] - its["boxes"].numpy()) <= 0.01).all(axis=-1)
        alike &= labels[image, :count, None] == its["labels"].numpy()
        alike &= np.abs(scores[image, :count, None] - its["scores"].numpy()) <= 1e-4
        assert alike.any(axis=0)[sure].all()
        compared += int(sure.sum())
    return compared
