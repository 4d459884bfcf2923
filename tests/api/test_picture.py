from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.api.picture import pixels_of
from smnas_optuna.errors import DataError

HEIGHT, WIDTH = 6, 10
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = PIXELS[:, :, 0]
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    return path


def _with_alpha() -> NDArray[np.uint8]:
    return np.dstack((PIXELS, np.full((HEIGHT, WIDTH), 7, np.uint8)))


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(PIXELS),
        Image.fromarray(_with_alpha()),
        PIXELS,
        _with_alpha(),
        PIXELS[:, ::-1][:, ::-1],
        TENSOR,
        TENSOR / 255,
        (TENSOR / 255).double(),
        (TENSOR / 255).half(),
        (TENSOR / 255).requires_grad_(),
    ],
    ids=["PIL", "PIL RGBA", "array", "array RGBA", "a view", "tensor", "float", "double", "half", "with gradient"],
)
def test_every_form_gives_the_same_pixels(picture: Any) -> None:
    pixels = pixels_of(picture)

    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize("form", [str, Path], ids=["str", "Path"])
def test_a_file_gives_its_pixels(form: type[str | Path], file: Path) -> None:
    np.testing.assert_array_equal(pixels_of(form(file)), PIXELS)


def test_a_file_in_the_home_folder_is_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))

    np.testing.assert_array_equal(pixels_of("~/image.png"), PIXELS)


@pytest.mark.parametrize(
    "picture",
    [GREY, Image.fromarray(GREY), Image.fromarray(GREY.astype(np.uint16) * 256)],
    ids=["array", "PIL", "PIL 16 bit"],
)
def test_grey_is_the_same_in_all_channels(picture: Any) -> None:
    np.testing.assert_array_equal(pixels_of(picture), np.dstack((GREY, GREY, GREY)))


def test_a_file_is_upright_and_an_image_in_memory_is_as_it_lies(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path, exif=exif)

    np.testing.assert_array_equal(pixels_of(path), np.rot90(PIXELS, -1))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(pixels_of(opened), PIXELS)


def _refusal(picture: Any) -> str:
    with pytest.raises(DataError) as caught:
        pixels_of(picture)
    return str(caught.value)


def test_files_that_cannot_be_read_are_refused(file: Path, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.png") == (
        f"{tmp_path}/none.png: there is no such image\n  fix: name an image file"
    )
    assert _refusal(str(tmp_path)) == (
        f"{tmp_path}: the image cannot be read: Is a directory\n  fix: name a whole image file"
    )
    file.write_bytes(file.read_bytes()[:100])
    assert _refusal(file).startswith(f"{file}: the image cannot be read: ")
    file.write_text("no image")
    assert re.search(r"the image cannot be read: cannot identify it as any of .*JPEG, .*PNG, ", _refusal(file))


def test_a_lazy_image_whose_file_is_broken_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])

    with Image.open(file) as opened:
        message = _refusal(opened)

    assert message.startswith("the PIL image of mode RGB, 10x6 pixels: cannot be read: ")
    assert message.endswith("\n  fix: give a whole image in RGB")


def test_an_image_without_a_scale_is_refused() -> None:
    image = Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32))

    assert _refusal(image).startswith(
        "the PIL image of mode F, 10x6 pixels: cannot be read: its pixels are floating-point numbers"
    )


ARRAYS = "\n  fix: give uint8 in 0..255: [height, width, 3] in RGB, [height, width, 4] or [height, width] in grey"
TENSORS = "\n  fix: give [3, height, width] in RGB: uint8 in 0..255, or floating point in [0, 1]"
KINDS = "\n  fix: give one path, PIL image, numpy array or torch tensor at a time"
RANGE = "\n  fix: give it in [0, 1], not normalised: the detector does that"


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (PIXELS / 255, f"an image cannot be a numpy array of type float64 and shape [6, 10, 3]{ARRAYS}"),
        (PIXELS.transpose(2, 0, 1), f"an image cannot be a numpy array of type uint8 and shape [3, 6, 10]{ARRAYS}"),
        (PIXELS[None], f"an image cannot be a numpy array of type uint8 and shape [1, 6, 10, 3]{ARRAYS}"),
        (PIXELS[:, :, :1], f"an image cannot be a numpy array of type uint8 and shape [6, 10, 1]{ARRAYS}"),
        (TENSOR[None], f"an image cannot be a tensor of type torch.uint8 and shape [1, 3, 6, 10]{TENSORS}"),
        (TENSOR.permute(1, 2, 0), f"an image cannot be a tensor of type torch.uint8 and shape [6, 10, 3]{TENSORS}"),
        (TENSOR.long(), f"an image cannot be a tensor of type torch.int64 and shape [3, 6, 10]{TENSORS}"),
        (
            torch.full((3, 2, 2), 255.0),
            f"an image cannot be a floating-point tensor with values from 255 to 255{RANGE}",
        ),
        (torch.tensor([-1.5, 1, 0.5]).view(3, 1, 1), f"a floating-point tensor with values from -1.5 to 1{RANGE}"),
        (torch.full((3, 2, 2), torch.nan), f"a floating-point tensor with values from nan to nan{RANGE}"),
        ([PIXELS, PIXELS], f"an image cannot be a list{KINDS}"),
        (b"image.png", f"an image cannot be a bytes{KINDS}"),
        (None, f"an image cannot be a NoneType{KINDS}"),
        (PIXELS[:0], "an image cannot have 10x0 pixels (width x height)\n  fix: give an image of at least one pixel"),
        (
            TENSOR[:, :, :0] / 255,
            "an image cannot have 0x6 pixels (width x height)\n  fix: give an image of at least one",
        ),
        (
            Image.new("RGB", (0, 6)),
            "an image cannot have 0x6 pixels (width x height)\n  fix: give an image of at least one",
        ),
    ],
    ids=[
        *("float array", "channels first", "a batch of arrays", "one channel"),
        *("a batch", "channels last", "integers", "0..255", "normalised", "not a number"),
        *("a list", "bytes", "None", "empty array", "empty tensor", "empty image"),
    ],
)
def test_what_is_no_image_is_refused(picture: Any, message: str) -> None:
    assert message in _refusal(picture)


def test_a_float_that_rounds_to_a_pixel_value_is_one() -> None:
    # as resizing leaves them
    assert np.unique(pixels_of(torch.tensor([-1e-7, 1 + 1e-6, 1.0]).view(3, 1, 1))).tolist() == [0, 255]
