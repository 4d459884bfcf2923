from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from smnas_optuna.errors import FileError
from smnas_optuna.runtime.any_file import AnyFile

from .any_files import IMAGE, write_onnx


@pytest.mark.parametrize(
    ("shape", "kind", "brightest"),
    [
        (IMAGE, TensorProto.FLOAT, 1.0),
        (IMAGE[1:], TensorProto.FLOAT, 1.0),
        ((1, 40, 64, 3), TensorProto.FLOAT16, 1.0),
        ((40, 64, 3), TensorProto.UINT8, 255),
    ],
    ids=["float", "without batch", "channels last, float16", "uint8, channels last"],
)
def test_an_image_is_given_as_the_input_wants_it(
    tmp_path: Path, shape: tuple[int, ...], kind: int, brightest: float
) -> None:
    file = AnyFile.read(write_onnx(tmp_path / "a.onnx", shape, kind=kind), num_threads=1)
    pixels = np.zeros((3, 40, 64), np.uint8)
    pixels[1, 7, 9] = 255

    assert file.size == (40, 64)
    assert float(np.asarray(file.run(pixels)[0])) == brightest
    assert float(np.asarray(file.run(np.zeros_like(pixels))[0])) == 0


def test_the_pixels_keep_their_places(tmp_path: Path) -> None:
    file = AnyFile.read(write_onnx(tmp_path / "a.onnx", (1, 40, 64, 3), operator="Identity"), num_threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 64), dtype=np.uint8)

    found = np.asarray(file.run(pixels)[0])

    np.testing.assert_allclose(found[0].transpose(2, 0, 1), pixels / 255, atol=1e-6)


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _text(path: Path) -> None:
    path.write_text("not a network")


def _cut(path: Path) -> None:
    write_onnx(path)
    path.write_bytes(path.read_bytes()[:-20])


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _given(*shape: int | str, **options: Any) -> Callable[[Path], object]:
    return lambda path: write_onnx(path, shape, **options)


@pytest.mark.parametrize(
    ("make", "said", "fix"),
    [
        (_missing, "there is no such file", "name an ONNX file of a detector"),
        (_text, "it cannot be timed: it is ", "name an ONNX file of a detector, with its weights inside the file"),
        (_cut, "it cannot be timed: it is cut off", "name an ONNX file of a detector"),
        (_pipe, "it cannot be read: it is a pipe or a device", "name an ONNX file of a detector"),
        (_given(1, 3, "height", "width"), "is [1, 3, 'height', 'width'], of no fixed shape", "without dynamic axes"),
        (_given("batch", 3, 64, 64), "is ['batch', 3, 64, 64], of no fixed shape", "without dynamic axes"),
        (_given(2, 3, 64, 64), "is [2, 3, 64, 64], which is not one image in colour", "[1, 3, H, W] or [1, H, W, 3]"),
        (_given(1, 1, 64, 64), "is [1, 1, 64, 64], which is not one image in colour", "[1, 3, H, W] or [1, H, W, 3]"),
        (_given(1, 3, 8, 64), "is [1, 3, 8, 64]: 32 to 4096 pixels can be given on each edge", "of one size"),
        (_given(1, 3, 64, 64, kind=TensorProto.INT64), "is a tensor(int64)", "as one of tensor(uint8), tensor(float)"),
        (_given(*IMAGE, inputs=2), "it has 2 inputs, and exactly one", "sizes and thresholds inside the file"),
        (_given(*IMAGE, operator="Unheard"), "cannot load it: ", "for operators that ONNX Runtime has"),
    ],
    ids=[
        *("missing", "text", "cut off", "pipe", "dynamic size", "dynamic batch", "two images", "grey", "small"),
        *("type", "two inputs", "unknown operator"),
    ],
)
def test_what_cannot_be_timed_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str, fix: str) -> None:
    path = tmp_path / "a.onnx"
    make(path)

    with pytest.raises(FileError) as refusal:
        AnyFile.read(path, num_threads=1)

    assert refusal.value.message.startswith(f"{path}: ")
    assert said in refusal.value.message
    assert fix in refusal.value.fix
