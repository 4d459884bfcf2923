"""Images that can be read in two ways, turned or not; copies, and files with several pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .two_splits import Pixels, load, noisy, oriented, pixels_of, write

TURNED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize(
    ("orientation", "size"), [(2, (20, 30)), (3, (20, 30)), (4, (20, 30)), *((turn, (20, 20)) for turn in (5, 6, 7, 8))]
)
def test_a_turn_that_no_size_tells_is_noted(orientation: int, size: tuple[int, int], tmp_path: Path) -> None:
    write(tmp_path, "train", [oriented(0, 1), oriented(1, orientation, size)])
    write(tmp_path, "val", [oriented(2, 1)])

    splits = load(tmp_path)

    path = tmp_path / "images" / "train-1.png"
    np.testing.assert_array_equal(pixels_of(splits.train)[1], TURNED[orientation](noisy(1, (*size, 3))))
    assert splits.train.notes == (
        f"1 of 2 images, first {path} (orientation {orientation}), are turned as EXIF says, and their size does not "
        "tell whether their boxes are; if the boxes belong to the pixels as stored, remove the orientation from the "
        "files",
    )
    assert splits.val.notes == ()


@pytest.mark.parametrize("upright", [True, False], ids=["after the turn", "before the turn"])
def test_quarter_turns_tell_what_half_turns_do_not(upright: bool, tmp_path: Path) -> None:
    images = [oriented(0, 3), oriented(1, 6), oriented(2, 1)]
    write(tmp_path, "train", images, [(30, 20), (20, 30) if upright else (30, 20), (30, 20)])
    write(tmp_path, "val", [oriented(3, 1)])

    splits = load(tmp_path)

    half, quarter, plain = pixels_of(splits.train)
    stored = [noisy(seed, (20, 30, 3)) for seed in range(3)]
    np.testing.assert_array_equal(half, stored[0][::-1, ::-1] if upright else stored[0])
    np.testing.assert_array_equal(quarter, np.rot90(stored[1], -1) if upright else stored[1])
    np.testing.assert_array_equal(plain, stored[2])
    note = (
        f"1 of 3 images, first {tmp_path / 'images' / 'train-0.png'} (orientation 3), are not turned as EXIF says: "
        "the sizes of those with a quarter turn are stated as stored"
    )
    assert splits.train.notes == (() if upright else (note,))


def test_copies_within_a_split_are_noted(tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(seed)) for seed in (0, 1, 0, 0)])
    write(tmp_path, "val", [Image.fromarray(noisy(2))])

    splits = load(tmp_path)

    images = tmp_path / "images"
    assert splits.train.notes == (
        f"2 of 4 images hold the same pixels as another (first {images / 'train-2.png'} as {images / 'train-0.png'})",
    )
    assert len(splits.train.images) == 4


@pytest.mark.parametrize("differ", [False, True])
def test_copies_with_other_boxes_are_told(differ: bool, tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(seed)) for seed in (0, 0, 1)])
    write(tmp_path, "val", [Image.fromarray(noisy(3))])
    file = tmp_path / "train.json"
    document = json.loads(file.read_text())
    document["annotations"][1]["bbox"][0] += differ
    file.write_text(json.dumps(document))

    (note,) = load(tmp_path).train.notes

    end = "; 1 of them have other boxes: what is right in one is false in the other"
    assert note.startswith("1 of 3 images hold the same pixels as another (first ")
    assert note.endswith(end) == differ


@pytest.mark.parametrize("suffix", ["png", "gif", "webp", "tif"])
def test_the_first_of_several_frames_is_read_with_a_note(suffix: str, tmp_path: Path) -> None:
    images = [Image.fromarray(noisy(seed)).convert("RGB") for seed in range(3)]
    write(tmp_path, "train", images)
    write(tmp_path, "val", [Image.fromarray(noisy(4))])
    path = tmp_path / "images" / f"train-1.{suffix}"
    images[1].copy().save(path, save_all=True, append_images=[images[2].copy()], lossless=True)
    file = tmp_path / "train.json"
    file.write_text(file.read_text().replace("train-1.png", path.name))

    splits = load(tmp_path)

    assert splits.train.notes == (f"1 of 3 images, first {path}, have several pages or frames: the first one is read",)
    np.testing.assert_allclose(pixels_of(splits.train)[1], np.asarray(images[1]), atol=1)


def test_the_pictures_beside_that_of_a_camera_are_no_pages(tmp_path: Path) -> None:
    images = [Image.fromarray(noisy(seed)).convert("RGB") for seed in range(2)]
    write(tmp_path, "train", images)
    write(tmp_path, "val", [Image.fromarray(noisy(4))])
    images[1].save(tmp_path / "images" / "train-1.png", format="MPO", save_all=True, append_images=[images[0]])

    assert load(tmp_path).train.notes == ()
