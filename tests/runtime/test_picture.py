from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.data.cache import render
from smnas_optuna.data.coco import ImageRecord
from smnas_optuna.data.loader import batch_of_one
from smnas_optuna.errors import DataError
from smnas_optuna.runtime.picture import input_of, pixels_of

from .exported_files import DESCRIPTION

HEIGHT, WIDTH = 61, 97
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = PIXELS[:, :, 0]


def _record(path: Path, height: int, width: int, grey_bits: int) -> ImageRecord:
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return ImageRecord(
        image_id=1,
        path=path,
        height=height,
        width=width,
        boxes=boxes,
        labels=labels,
        crowd=crowd,
        grey_bits=grey_bits,
    )


def _palette() -> Image.Image:
    return Image.fromarray(PIXELS).quantize(16)


def _turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


FILES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "png": (Image.fromarray(PIXELS), "png", {}),
    "jpeg": (Image.fromarray(PIXELS), "jpg", {}),
    "turned": (Image.fromarray(PIXELS), "jpg", _turned(6)),
    "upside down": (Image.fromarray(PIXELS), "png", _turned(3)),
    "alpha": (Image.fromarray(np.dstack((PIXELS, GREY))), "png", {}),
    "palette": (_palette(), "png", {}),
    "palette with alpha": (_palette(), "png", {"transparency": b"\x00\x80"}),
    "grey": (Image.fromarray(GREY), "png", {}),
    "16 bits": (Image.fromarray(GREY.astype(np.uint16) * 257), "png", {}),
    "12 bits": (Image.fromarray(GREY.astype(np.uint16) * 16), "tif", {}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_input_that_training_saw(name: str, tmp_path: Path) -> None:
    image, suffix, options = FILES[name]
    path, bits = tmp_path / f"image.{suffix}", 12 if name == "12 bits" else 16
    image.save(path, **options)
    height, width = (WIDTH, HEIGHT) if name == "turned" else (HEIGHT, WIDTH)

    images, sizes = input_of(pixels_of(path, grey_bits=bits), DESCRIPTION)

    np.testing.assert_array_equal(images[0], render(_record(path, height, width, bits), 64, 48))
    assert images.shape == ((1, 3, 64, 64))
    assert sizes.dtype == np.int64


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (64, 64), (1, 200), (48, 64), (500, 333)])
def test_an_array_is_the_input_of_evaluation(height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)

    images, sizes = input_of(pixels, replace(DESCRIPTION, long=100, short=70))

    batch = batch_of_one(pixels, long=100, short=70)
    np.testing.assert_array_equal(images, batch.images.numpy())
    np.testing.assert_array_equal(sizes, batch.sizes.numpy())


@pytest.mark.parametrize(
    "picture",
    [Image.fromarray(PIXELS), PIXELS, np.dstack((PIXELS, GREY)), PIXELS[:, ::-1][:, ::-1]],
    ids=["PIL", "array", "array with alpha", "a view"],
)
def test_every_form_gives_the_same_pixels(picture: Any) -> None:
    np.testing.assert_array_equal(pixels_of(picture), PIXELS)


@pytest.mark.parametrize("picture", [None, [PIXELS], b"image.png", 3])
def test_what_is_no_image_is_refused(picture: Any) -> None:
    with pytest.raises(DataError) as caught:
        pixels_of(picture)

    assert str(caught.value) == (
        f"an image cannot be a {type(picture).__name__}\n  fix: give one path, PIL image or numpy array at a time"
    )


def test_an_image_without_pixels_is_refused() -> None:
    empty: NDArray[np.uint8] = PIXELS[:0]
    with pytest.raises(DataError, match="an image cannot have 97x0 pixels"):
        pixels_of(empty)
