"""Exported files without a network, and a folder of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..runtime.exported_files import DESCRIPTION, make_content, make_model

SIZES = [(60, 90), (90, 60), (48, 64), (70, 70)]
REFERENCE = replace(DESCRIPTION, arch="32x32.resnet18-w4.fpn-p3-p5-c8.none.retina", long=32, short=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of both orientations, a text and a folder."""
    folder = tmp_path / "images"
    (folder / "more.png").mkdir(parents=True)
    (folder / "labels.txt").write_text("cat")
    for number, (height, width) in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A detector that computes a little."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(make_content(slow=3))
    return path


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A detector whose operators belong to its backbone."""
    model = make_model(slow=3)
    for number, node in enumerate(model.graph.node):
        node.name = f"/backbone/{number}"
    path = tmp_path / "named.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A detector that computes less."""
    path = tmp_path / "reference.onnx"
    path.write_bytes(make_content(REFERENCE))
    return path
