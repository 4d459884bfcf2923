from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import decode_upright

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

    path.write_text("")
    with pytest.raises(DataError) as error:
        decode_upright(path)
    assert str(error.value).startswith(f"{path}: the image cannot be read: cannot identify it as any of ")
    assert str(error.value).endswith("\n  fix: name a whole image file")

    Image.new("L", (WIDTH, HEIGHT)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(DataError, match=r"Image size \(60 pixels\) exceeds limit of 58 pixels"):
        decode_upright(path)
