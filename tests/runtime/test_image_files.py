from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import decode_upright, upright_size

# tests/data/test_images.py has all modes, formats, turns and damages.

HEIGHT, WIDTH = 6, 10


def test_a_turned_tiff_is_upright(tmp_path: Path) -> None:  # Pillow turns it itself
    stored = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    path = tmp_path / "image.tif"
    Image.fromarray(stored).save(path, tiffinfo={0x0112: 6})

    np.testing.assert_array_equal(decode_upright(path), np.rot90(stored, -1))


def test_a_file_of_any_size_that_cannot_be_read_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    with pytest.raises(DataError) as error:
        decode_upright(path)
    assert str(error.value) == f"{path}: there is no such image\n  fix: name an image file"

    path.write_text("text")
    with pytest.raises(DataError) as error:
        decode_upright(path)
    assert str(error.value).startswith(f"{path}: the image cannot be read: cannot identify it as any of ")
    assert str(error.value).endswith("\n  fix: name a whole image file")

    Image.new("L", (WIDTH, HEIGHT)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(DataError, match=r"Image size \(60 pixels\) exceeds limit of 58 pixels"):
        decode_upright(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "size"),
    [(1, (20, 30)), (3, (20, 30)), (5, (30, 20)), (6, (30, 20)), (7, (30, 20)), (8, (30, 20)), (99, (20, 30))],
)
def test_the_upright_size_is_that_after_decoding(
    suffix: str, orientation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    exif, path = Image.Exif(), tmp_path / f"a.{suffix}"
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert upright_size(path) == size
    assert decode_upright(path).shape[:2] == size


def test_the_upright_size_needs_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20)).save(path)
    path.write_bytes(path.read_bytes()[:50])
    assert upright_size(path) == (20, 30)


def test_the_size_of_what_is_no_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: there is no such image"):
        upright_size(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"a\.png: the image cannot be read: cannot identify it as any of"):
        upright_size(tmp_path / "a.png")
