"""Boxes in another unit or order of numbers, told by all of them together."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.box_layout import check_layout
from smnas_optuna.errors import DataError

from .hostile import check_message

SOURCE = Path("train.json")
Bbox = tuple[float, float, float, float]
Change = Callable[[float, float, float, float, float, float], Bbox]
"""(x, y, width, height of a box, width, height of its image) -> the four numbers that are written instead."""


def _file(
    change: Change = lambda x, y, w, h, *_: (x, y, w, h),
    *,
    size: tuple[int, int] = (160, 120),
    count: int = 200,
    seed: int = 0,
    area: bool = False,
) -> AnnotationFile:
    """Boxes of every size, anywhere in ten images of ``size`` (width, height), to the last pixel."""
    random, (width, height) = np.random.default_rng(seed), size
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        (x, x2), (y, y2) = (np.sort(random.integers(0, edge + 1, 2)).tolist() for edge in size)
        x, y = min(x, width - 1), min(y, height - 1)
        w, h = max(x2 - x, 1), max(y2 - y, 1)
        bbox: Any = change(x, y, w, h, width, height)
        row = {"id": number, "image_id": number % 10, "category_id": 1, "area": float(w * h) if area else np.nan}
        annotations.append(row | {"bbox": list(bbox) if isinstance(bbox, tuple) else bbox, "iscrowd": 0})
    images = [{"id": number, "file_name": f"{number}", "width": width, "height": height} for number in range(10)]
    return AnnotationFile(images=images, annotations=annotations, categories=[{"id": 1, "name": "cat"}])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(160, 120), (64, 64), (2000, 1500)])
def test_boxes_in_pixels_are_taken_as_they_are(size: tuple[int, int], seed: int) -> None:
    for count in (1, 5, 12, 200):
        assert check_layout(_file(size=size, seed=seed, count=count, area=seed % 2 == 0), SOURCE) == ()


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
    file = _file(change, count=count)

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
    file = _file()
    file.annotations[3]["bbox"] = [0.25, 0.5, 0.25, 0.5]

    assert check_layout(file, SOURCE) == (
        "1 of 200 boxes lie within the first pixel of their images, first annotation 3 of image 3, "
        "bbox [0.25, 0.5, 0.25, 0.5], image 160x120",
    )


def test_parts_of_an_image_among_pixels_are_refused_if_they_are_many() -> None:
    file, parts = _file(), _file(FRACTIONS["corner and size"])
    file.annotations[::7] = parts.annotations[::7]

    with pytest.raises(DataError) as error:
        check_layout(file, SOURCE)

    assert error.value.message.startswith(
        "train.json: 29 of 200 boxes lie within the first pixel of their images: they"
    )


def test_one_box_for_images_without_objects_is_no_part_of_an_image() -> None:
    file = _file()
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
}


@pytest.mark.parametrize(("change", "what"), HALF_IN_PARTS.values(), ids=HALF_IN_PARTS)
def test_boxes_of_which_two_numbers_are_parts_of_an_image_are_refused(change: Change, what: str) -> None:
    with pytest.raises(DataError) as error:
        check_layout(_file(change), SOURCE)

    assert error.value.message.startswith(f"train.json: 200 of 200 boxes {what}: they look like parts of the width")


@pytest.mark.parametrize(
    "change", [lambda x, y, *_: (x, y, 1, 1), lambda *box: (0, 0, *box[2:4])], ids=["points", "from the corner"]
)
def test_points_and_boxes_at_the_corner_are_no_parts_of_an_image(change: Change) -> None:
    assert check_layout(_file(change), SOURCE) == ()


def test_in_an_image_of_a_few_pixels_a_box_of_one_is_an_object() -> None:
    assert check_layout(_file(lambda *_: (0, 0, 1, 1), size=(7, 7)), SOURCE) == ()


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
        check_layout(_file(change, seed=seed, count=50), SOURCE)

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

    file = _file(change, area=True)
    for row in file.annotations:
        row["area"] /= 9

    with pytest.raises(DataError, match=r"the boxes look like \(x1, y1, x2, y2\).*: 0 of 200 do not fit"):
        check_layout(file, SOURCE)


def test_few_boxes_or_equal_ones_tell_no_layout() -> None:
    corners = LAYOUTS["(x1, y1, x2, y2)"]

    assert check_layout(_file(corners, count=2), SOURCE) == ()
    (note,) = check_layout(_file(corners, count=9), SOURCE)
    assert note.endswith(" of 9 boxes reach over the border, and hardly any if they were (x1, y1, x2, y2)")
    equal = check_layout(_file(lambda *_: (50, 60, 90, 80)), SOURCE)
    assert equal == ("200 of 200 boxes reach over the border, and hardly any if they were (x1, y1, x2, y2)",)


def test_boxes_that_reach_a_little_over_the_border_are_no_other_layout() -> None:
    def grown(x: float, y: float, w: float, h: float, *_: float) -> Bbox:
        return x - 3, y - 3, w + 6, h + 6

    assert check_layout(_file(grown), SOURCE) == ()


NOTES: dict[str, tuple[Change, tuple[int, int], str | re.Pattern[str]]] = {
    "percent": (
        lambda x, y, w, h, width, height: (100 * x / width, 100 * y / height, 100 * w / width, 100 * h / height),
        (160, 120),
        "all 200 boxes end within 100 pixels, and the images have up to 160x120 pixels: are these percent? ",
    ),
    "thousandths": (
        lambda x, y, w, h, width, height: (1e3 * x / width, 1e3 * y / height, 1e3 * w / width, 1e3 * h / height),
        (2000, 1500),
        "all 200 boxes end within 1000 pixels, and the images have up to 2000x1500 pixels: are these thousandths? ",
    ),
    "thousandths of small images": (
        lambda x, y, w, h, width, height: (1e3 * x / width, 1e3 * y / height, 1e3 * w / width, 1e3 * h / height),
        (160, 120),
        "200 of 200 boxes reach far over the border; the farthest end at x = 1000, y = 1000, and the images have up to "
        "160x120 pixels: are these thousandths? ",
    ),
    "corners in thousandths of small images": (
        lambda x, y, w, h, iw, ih: (1e3 * x / iw, 1e3 * y / ih, 1e3 * (x + w) / iw, 1e3 * (y + h) / ih),
        (160, 120),
        re.compile(r"\d+ of 200 boxes reach far .*: are these thousandths as \(x1, y1, x2, y2\)\? "),
    ),
    "corners in percent": (
        lambda x, y, w, h, iw, ih: (100 * x / iw, 100 * y / ih, 100 * (x + w) / iw, 100 * (y + h) / ih),
        (640, 480),
        "all 200 boxes end within 100 pixels, and the images have up to 640x480 pixels: are these percent as "
        "(x1, y1, x2, y2)? ",
    ),
    "centres in percent": (
        lambda x, y, w, h, iw, ih: (100 * (x + w / 2) / iw, 100 * (y + h / 2) / ih, 100 * w / iw, 100 * h / ih),
        (640, 480),
        "all 200 boxes end within 100 pixels, and the images have up to 640x480 pixels: are these percent as "
        "(centre x, centre y, width, height)? ",
    ),
    "images of half the size": (
        lambda x, y, w, h, *_: (x / 2, y / 2, w / 2, h / 2),
        (160, 120),
        "all 200 boxes lie in the upper left 50 % x 50 % of their images: ",
    ),
}


@pytest.mark.parametrize(("change", "size", "said"), NOTES.values(), ids=NOTES)
def test_what_may_be_another_unit_or_size_is_noted(
    change: Change, size: tuple[int, int], said: str | re.Pattern[str]
) -> None:
    (note,) = check_layout(_file(change, size=size), SOURCE)

    end = "boxes in another unit, or of another size of the images, must be written in pixels of these"
    assert note.endswith(end)
    begin = note.removesuffix(end)
    assert begin == said if isinstance(said, str) else said.fullmatch(begin)


def test_turned_boxes_may_be_turned_sizes() -> None:
    with pytest.raises(DataError) as error:
        check_layout(_file(LAYOUTS["(y, x, height, width)"]), SOURCE)
    assert error.value.fix.endswith("; or width and height of the images are swapped")


@pytest.mark.parametrize("bbox", [None, "", [], [0, 0, 1], ["0", 0, 1, 1], [0, 0, 0, 0], [np.nan] * 4, [0, 0, -5, 5]])
def test_what_is_no_box_is_left_to_others(bbox: object) -> None:
    assert check_layout(_file(lambda *_: bbox), SOURCE) == ()  # type: ignore[arg-type]
