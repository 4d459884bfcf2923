from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import smnas_optuna
from smnas_optuna.errors import DataError, FileError
from smnas_optuna.runtime.names import OUTPUTS, Arrays, Shape
from smnas_optuna.runtime.picture import input_of
from smnas_optuna.runtime.predictor import Predictor, load_exported
from smnas_optuna.runtime.sessions import CanvasSessions

from .exported_files import DESCRIPTION, expected, make_content, make_file
from .without_torch import WITHOUT_TORCH


def _pixels(height: int, width: int, *, red: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = np.random.default_rng(0).integers(0, 120, (height, width, 3), np.uint8)
    pixels[:, :, 0] = red
    return pixels


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "detector.onnx"
    path.write_bytes(make_content())
    return path


@pytest.mark.parametrize("red", [10, 250])
@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (48, 64), (500, 333)])
def test_boxes_are_in_pixels_of_the_image_as_given(height: int, width: int, red: int, exported: Path) -> None:
    pixels = _pixels(height, width, red=red)

    detections = load_exported(exported, num_threads=1).predict(pixels)

    images, sizes = input_of(pixels, DESCRIPTION)
    found, count = expected(images, sizes), 2 if red == 250 else 1
    scale = np.array([width, height] * 2) / np.tile(sizes[0, ::-1], 2)
    assert len(detections) == found.counts[0] == count
    np.testing.assert_allclose(detections.boxes, found.boxes[0, :count] * scale, rtol=1e-5)
    np.testing.assert_allclose(detections.boxes[:, 2:], [[width, height]] * count, rtol=1e-5)
    np.testing.assert_allclose(detections.scores, found.scores[0, :count], rtol=1e-5)
    assert detections.labels.tolist() == [1, 2][:count]
    assert detections.names == ["cat", "dog"][:count]
    assert detections.boxes.dtype == detections.scores.dtype == np.float32
    assert detections.labels.dtype == np.int64


def test_every_form_of_an_image_gives_the_same(exported: Path, tmp_path: Path) -> None:
    pixels, path, predictor = _pixels(60, 90, red=250), tmp_path / "image.png", Predictor.open(str(exported))
    Image.fromarray(pixels).save(path)

    results = [predictor.predict(each) for each in (pixels, Image.fromarray(pixels), path, str(path))]

    for result in results:
        np.testing.assert_array_equal(result.boxes, results[0].boxes)


def test_grey_is_read_with_the_bits_of_the_file() -> None:
    grey = Image.fromarray(np.full((60, 90), 4000, np.uint16))
    seen = list[int]()

    def build(shape: Shape) -> Any:
        def execute(images: Any, sizes: Any) -> Arrays:
            seen.append(int(images[0, 0, 0, 0]))
            return [getattr(expected(images, sizes), name) for name in OUTPUTS]

        return execute

    for bits in (12, 16):
        Predictor(CanvasSessions(make_file(grey_bits=bits), build)).predict(grey)

    assert seen == [4000 // 16, 4000 // 256]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"counts": np.array([4])}, "it found 4 objects in 3 slots, with labels [1, 2, 0], but it has 2 classes"),
        ({"counts": np.array([-1])}, "it found -1 objects in 3 slots, with labels [], but it has 2 classes"),
        ({"labels": np.array([[3, 1, 1]])}, "with labels [3, 1], but it has 2 classes"),
        ({"labels": np.array([[0, 1, 1]])}, "with labels [0, 1], but it has 2 classes"),
    ],
)
def test_what_no_detector_finds_is_refused(changes: dict[str, Any], what: str) -> None:
    def execute(images: Any, sizes: Any) -> Arrays:
        return [changes.get(name, getattr(expected(images, sizes), name)) for name in OUTPUTS]

    with pytest.raises(FileError) as caught:
        Predictor(CanvasSessions(make_file(), lambda _: execute)).predict(_pixels(60, 90, red=250))

    assert what in str(caught.value)


def test_mistakes_are_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"there is no such file"):
        load_exported(tmp_path / "none.onnx")
    with pytest.raises(DataError, match=r"there is no such image"):
        load_exported(exported).predict(tmp_path / "none.png")


def test_it_is_there_under_the_name_of_the_package(exported: Path) -> None:
    predictor = smnas_optuna.load_exported(exported)

    assert repr(predictor) == f"Predictor({DESCRIPTION.arch!r}, 2 classes)"
    assert predictor.classes == ("cat", "dog")
    assert predictor.description == DESCRIPTION


IMPORT_ALL = """
import importlib, pkgutil
for room in ("runtime", "stopwatch"):
    package = importlib.import_module(f"smnas_optuna.{room}")
    for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
print(*sorted({"onnxruntime", "openvino"} & set(sys.modules)))
"""


def test_every_module_is_there_without_torch_and_loads_no_runtime() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH + IMPORT_ALL]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stdout, run.stderr) == (0, "\n", "")


PREDICT = """
import smnas_optuna
from smnas_optuna.runtime.predictor import load_exported
for runtime in sys.argv[3:]:
    print(smnas_optuna.load_exported(sys.argv[1], runtime).predict(sys.argv[2]))
"""


def test_it_detects_where_there_is_no_torch(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(_pixels(60, 90, red=250)).save(path)
    command = [sys.executable, "-c", WITHOUT_TORCH + PREDICT, str(exported), str(path), "onnxruntime"]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"{load_exported(exported).predict(path)}\n"


def test_a_description_that_asks_for_another_canvas_gets_it() -> None:
    shapes = list[Shape]()

    def build(shape: Shape) -> Any:
        shapes.append(shape)
        return lambda images, sizes: [getattr(expected(images, sizes), name) for name in OUTPUTS]

    file = make_file(canvas_multiple=16)
    Predictor(CanvasSessions(file, build)).predict(_pixels(60, 90, red=1))

    assert shapes == [(1, 3, 48, 64)]
    assert replace(DESCRIPTION, canvas_multiple=16) == file.description


def test_confident_ones_are_those_of_the_files_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(make_content(replace(DESCRIPTION, thresholds={"cat": 0.5, "dog": 0.6})))

    found = load_exported(path, num_threads=1).predict(_pixels(60, 90, red=250))  # 0.9 and 0.5 times nearly 1

    assert found.names == ["cat", "dog"]
    assert found.confident().names == ["cat"]
