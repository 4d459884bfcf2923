from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.stopwatch.images import MAX_IMAGES, image_paths, read_images

from .conftest import SIZES


def test_the_images_of_a_folder_are_read(folder: Path) -> None:
    paths = image_paths(folder)

    assert [path.name for path in paths] == ["0.png", "1.png", "2.png", "3.png"]
    assert [pixels.shape for pixels in read_images(paths, 16)] == [(*size, 3) for size in SIZES]


@pytest.mark.parametrize(("count", "last"), [(MAX_IMAGES, 31), (MAX_IMAGES + 1, 31), (100, 96)])
def test_many_images_are_spread_evenly(count: int, last: int, tmp_path: Path) -> None:
    for number in range(count):
        (tmp_path / f"{number:03}.JPG").touch()

    paths = image_paths(tmp_path)

    assert len(set(paths)) == MAX_IMAGES
    assert (paths[0].name, paths[-1].name) == ("000.JPG", f"{last:03}.JPG")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").touch()
    with pytest.raises(DataError) as caught:
        image_paths(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: there are no images in it\n  fix: name a folder that has image files with --images"
    )
    for path in (tmp_path / "none", tmp_path / "labels.txt"):
        with pytest.raises(DataError, match=r"there is no such folder\n  fix: name a folder of images with --images"):
            image_paths(path)


def test_an_image_that_is_damaged_is_named(folder: Path) -> None:
    (folder / "2.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"2\.png: the image cannot be read"):
        list(read_images(image_paths(folder), 16))


def test_hidden_files_are_no_images(folder: Path) -> None:
    (folder / "._0.png").write_bytes(b"what a Mac writes beside a file")

    assert [path.name for path in image_paths(folder)] == ["0.png", "1.png", "2.png", "3.png"]


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "other.png")
    (folder / "9.png").symlink_to(tmp_path / "other.png")
    (folder / "8.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "link").symlink_to(folder)

    assert [path.name for path in image_paths(tmp_path / "link")] == ["0.png", "1.png", "2.png", "3.png", "9.png"]
