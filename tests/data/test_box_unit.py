"""Boxes in another unit than the pixels of their images, or of another size of these."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smnas_optuna.data.box_layout import check_layout

from .boxes_of_images import Change, make_file

SOURCE = Path("train.json")
END = "boxes in another unit, or of another size of the images, must be written in pixels of these"


def _percent(x: float, y: float, w: float, h: float, width: float, height: float) -> tuple[float, float, float, float]:
    return 100 * x / width, 100 * y / height, 100 * w / width, 100 * h / height


NOTES: dict[str, tuple[Change, tuple[int, int], str | re.Pattern[str]]] = {
    "percent": (
        _percent,
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
    "a square of 256 pixels": (
        lambda x, y, w, h, iw, ih: (256 * x / iw, 256 * y / ih, 256 * w / iw, 256 * h / ih),
        (300, 260),
        "the farthest end at x = 256, y = 256, and the images have up to 300x260 pixels: were the boxes drawn in "
        "images of 256x256 pixels? ",
    ),
    "corners in a square of 416 pixels": (
        lambda x, y, w, h, iw, ih: (416 * x / iw, 416 * y / ih, 416 * (x + w) / iw, 416 * (y + h) / ih),
        (1600, 900),
        re.compile(r"the farthest end at .*: were the boxes drawn in images of 416x416 .* as \(x1, y1, x2, y2\)\? "),
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
    (note,) = check_layout(make_file(change, size=size), SOURCE)

    assert note.endswith(END)
    begin = note.removesuffix(END)
    assert begin == said if isinstance(said, str) else said.fullmatch(begin)


@pytest.mark.parametrize("images", [3, 9])
def test_percent_in_some_images_is_noted(images: int) -> None:
    file, percent = make_file(size=(640, 480)), make_file(_percent, size=(640, 480))
    for row, written in zip(file.annotations, percent.annotations, strict=True):
        row["bbox"] = written["bbox"] if row["image_id"] < images else row["bbox"]

    assert check_layout(file, SOURCE) == (
        f"{images} of 10 images have all their boxes within their first 100 pixels, first image 0: are these percent? "
        f"{END}",
    )


def test_images_with_all_boxes_in_a_corner_are_no_percent_if_other_corners_are_as_full() -> None:
    file = make_file(size=(640, 480))
    for row in file.annotations:
        left, top, width, height = row["bbox"]
        x, y, w, h = _percent(left, top, width, height, 640, 480)
        corner = row["image_id"] % 4
        row["bbox"] = [x + 540 * (corner % 2), y + 380 * (corner // 2), w, h]

    assert check_layout(file, SOURCE) == ()
