"""Boxes in another unit or order of numbers, told by all of them together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.data.box_layout import check_layout
from smnas_optuna.errors import DataError

from .boxes_of_images import Bbox, Change, make_file
from .hostile import check_message

SOURCE = Path("train.json")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(160, 120), (64, 64), (2000, 1500)])
def test_boxes_in_pixels_are_taken_as_they_are(size: tuple[int, int], seed: int) -> None:
    for count in (1, 5, 12, 200):
        assert check_layout(make_file(size=size, seed=seed, count=count, area=seed % 2 == 0), SOURCE) == ()


FRACTIONS: dict[str, Change] = {
    "corner and size": lambda x, y, w, h, width, height: (x / width, y / height, w / width, h / height),
    "centre and size": lambda x, y, w, h, width, height: (
        *((x + w / 2) / width, (y + h / 2) / height),
        *(w / width, h / height),
    ),
    "two corners": lambda x, y, w, h, width, height: (x / width, y / height, (x + w) / width, (y + h) / height),
    "a little over the border": lambda x, y, w, h, width, height: (x / width, y / height, 1.04 * w / width, h / height),
}


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize("change", FRACTIONS.values(), ids=FRACTIONS)
def test_parts_of_an_image_are_refused(change: Change, count: int) -> None:
    file = make_file(change, count=count)

    with pytest.raises(DataError) as error:
        check_layout(file, SOURCE)

    assert str(error.value).splitlines() == [
        f"train.json: {count} of {count} boxes lie within the first pixel of their images: they look like parts of the "
        "width and height, not pixels",
        f"  first: annotation 0 of image 0, bbox {file.annotations[0]['bbox']!r}, image 160x120",
        "  fix: multiply them by width and height of their images; write bbox as (x, y, width, height) in pixels; "
        "x and y are those of the upper left corner",
    ]


def test_a_few_boxes_within_the_first_pixel_are_noted() -> None:
    file = make_file()
    file.annotations[3]["bbox"] = [0.25, 0.5, 0.25, 0.5]

    assert check_layout(file, SOURCE) == (
        "1 of 200 boxes lie within the first pixel of their images, first annotation 3 of image 3, "
        "bbox [0.25, 0.5, 0.25, 0.5], image 160x120",
    )


def test_parts_of_an_image_among_pixels_are_refused_if_they_are_many() -> None:
    file, parts = make_file(), make_file(FRACTIONS["corner and size"])
    file.annotations[::7] = parts.annotations[::7]

    with pytest.raises(DataError) as error:
        check_layout(file, SOURCE)

    assert error.value.message.startswith(
        "train.json: 29 of 200 boxes lie within the first pixel of their images: they"
    )


def test_one_box_for_images_without_objects_is_no_part_of_an_image() -> None:
    file = make_file()
    for row in file.annotations[::7]:
        row["bbox"] = [0, 0, 1, 1]

    assert [note.split(",")[0] for note in check_layout(file, SOURCE)] == [
        "29 of 200 boxes lie within the first pixel of their images"
    ]


HALF_IN_PARTS: dict[str, tuple[Change, str]] = {
    "size": (lambda x, y, w, h, width, height: (x, y, w / width, h / height), "are no larger than a pixel"),
    "place": (
        lambda x, y, w, h, width, height: (x / width, y / height, w, h),
        "begin within the first pixel of their images",
    ),
    "x": (lambda x, y, w, h, width, _: (x / width, y, w / width, h), "are no wider than a pixel"),
    "y": (lambda x, y, w, h, _, height: (x, y / height, w, h / height), "are no higher than a pixel"),
}


@pytest.mark.parametrize(("change", "what"), HALF_IN_PARTS.values(), ids=HALF_IN_PARTS)
def test_boxes_of_which_two_numbers_are_parts_of_an_image_are_refused(change: Change, what: str) -> None:
    with pytest.raises(DataError) as error:
        check_layout(make_file(change), SOURCE)

    assert error.value.message.startswith(f"train.json: 200 of 200 boxes {what}: they look like parts of the width")


@pytest.mark.parametrize(
    "change", [lambda x, y, *_: (x, y, 1, 1), lambda *box: (0, 0, *box[2:4])], ids=["points", "from the corner"]
)
def test_points_and_boxes_at_the_corner_are_no_parts_of_an_image(change: Change) -> None:
    assert check_layout(make_file(change), SOURCE) == ()


def test_in_an_image_of_a_few_pixels_a_box_of_one_is_an_object() -> None:
    assert check_layout(make_file(lambda *_: (0, 0, 1, 1), size=(7, 7)), SOURCE) == ()


LAYOUTS: dict[str, Change] = {
    "(x1, y1, x2, y2)": lambda x, y, w, h, *_: (x, y, x + w, y + h),
    "(centre x, centre y, width, height)": lambda x, y, w, h, *_: (x + w / 2, y + h / 2, w, h),
    "(y1, x1, y2, x2)": lambda x, y, w, h, *_: (y, x, y + h, x + w),
    "(y, x, height, width)": lambda x, y, w, h, *_: (y, x, h, w),
    "(x, y, height, width)": lambda x, y, w, h, *_: (x, y, h, w),
    "(x1, x2, y1, y2)": lambda x, y, w, h, *_: (x, x + w, y, y + h),
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("layout", "change"), LAYOUTS.items(), ids=LAYOUTS)
def test_another_order_of_the_numbers_is_refused_and_named(layout: str, change: Change, seed: int) -> None:
    with pytest.raises(DataError) as error:
        check_layout(make_file(change, seed=seed, count=50), SOURCE)

    check_message(error.value)
    assert error.value.message.startswith(f"train.json: the boxes look like {layout}, not (x, y, width, height): ")
    how_many = re.search(r"(\d+) of (\d+) do not fit .* as the former (\d+) fit$", error.value.message)
    assert how_many is not None
    misfits, count, fit = map(int, how_many.groups())
    assert 0 < misfits <= count == fit
    assert str(error.value.first).startswith("annotation ")
    assert error.value.fix.startswith("write bbox as (x, y, width, height) in pixels")


def test_corners_that_all_fit_as_sizes_are_told_by_their_areas() -> None:
    def change(x: float, y: float, w: float, h: float, *_: float) -> Bbox:
        return x / 3, y / 3, (x + w) / 3, (y + h) / 3

    file = make_file(change, area=True)
    for row in file.annotations:
        row["area"] /= 9

    with pytest.raises(DataError, match=r"the boxes look like \(x1, y1, x2, y2\).*: 0 of 200 do not fit"):
        check_layout(file, SOURCE)


def test_few_boxes_or_equal_ones_tell_no_layout() -> None:
    corners = LAYOUTS["(x1, y1, x2, y2)"]
    over = "boxes reach over the border of their image by more than 10 % of it, first annotation 0 of image 0, bbox "

    assert check_layout(make_file(corners, count=2), SOURCE) == (f"1 of 2 {over}[102, 32, 136, 61], image 160x120",)
    note, far = check_layout(make_file(corners, count=9), SOURCE)
    assert note.endswith(" of 9 boxes reach over the border, and hardly any if they were (x1, y1, x2, y2)")
    assert over in far
    equal = check_layout(make_file(lambda *_: (50, 60, 90, 80)), SOURCE)
    assert equal == (
        "200 of 200 boxes reach over the border, and hardly any if they were (x1, y1, x2, y2)",
        f"200 of 200 {over}[50, 60, 90, 80], image 160x120",
    )


def test_boxes_that_reach_a_little_over_the_border_are_no_other_layout() -> None:
    def grown(x: float, y: float, w: float, h: float, *_: float) -> Bbox:
        return x - 3, y - 3, w + 6, h + 6

    assert check_layout(make_file(grown), SOURCE) == ()


def test_turned_boxes_may_be_turned_sizes() -> None:
    with pytest.raises(DataError) as error:
        check_layout(make_file(LAYOUTS["(y, x, height, width)"]), SOURCE)
    assert error.value.fix.endswith("; or width and height of the images are swapped")


@pytest.mark.parametrize("bbox", [None, "", [], [0, 0, 1], ["0", 0, 1, 1], [0, 0, 0, 0], [np.nan] * 4, [0, 0, -5, 5]])
def test_what_is_no_box_is_left_to_others(bbox: object) -> None:
    assert check_layout(make_file(lambda *_: bbox), SOURCE) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["(x1, y1, x2, y2)", "(y1, x1, y2, x2)", "(x1, x2, y1, y2)"])
@pytest.mark.parametrize("images", [2, 5])
def test_another_layout_in_some_images_is_refused_and_named(images: int, layout: str) -> None:
    file, other = make_file(), make_file(LAYOUTS[layout])
    for row, written in zip(file.annotations, other.annotations, strict=True):
        row["bbox"] = written["bbox"] if row["image_id"] < images else row["bbox"]

    with pytest.raises(DataError) as error:
        check_layout(file, SOURCE)

    check_message(error.value)
    assert error.value.message.startswith(f"train.json: the boxes of {images} of 10 images look like {layout}, not ")
    assert error.value.message.endswith(" boxes reach far over the border as the latter, and as the former all fit")
    assert error.value.fix.startswith("write bbox as (x, y, width, height) in pixels")


def test_objects_that_reach_far_out_of_their_images_are_no_mixture() -> None:
    def close_up(x: float, y: float, w: float, h: float, width: float, height: float) -> Bbox:
        return width / 4 + x / 9, height / 4 + y / 9, width * 0.9, height * 0.9

    file = make_file()
    file.annotations[::20] = make_file(close_up).annotations[::20]

    (note,) = check_layout(file, SOURCE)

    assert note.startswith("10 of 200 boxes reach over the border of their image by more than 10 % of it, first annot")
