from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.data import ImageRecord
from smnas_optuna.errors import DataError
from smnas_optuna.overview.data_page import EDGE, EXAMPLE_EDGE
from smnas_optuna.overview.pictures import MOST_BOXES, Order, around, draw, whole

from .made import Box, dataset


def _record(folder: Path, boxes: Sequence[Box], *, size: tuple[int, int] = (64, 48)) -> ImageRecord:
    return dataset(folder, [boxes], size=size).images[0]


def _order(image: ImageRecord, area: tuple[int, int, int, int] | None = None, *, edge: int = 32) -> Order:
    shown = np.arange(len(image.boxes))
    return Order(image=image, shown=shown, area=area or whole(image), edge=edge, line="training, 64x48")


def _stored(figure: str) -> Image.Image:
    found = re.search(r'href="data:image/jpeg;base64,([^"]+)"', figure)
    assert found is not None
    return Image.open(BytesIO(b64decode(found[1])))


def test_boxes_lie_over_a_small_picture_in_pixels_of_the_image(tmp_path: Path) -> None:
    figure = draw(_order(_record(tmp_path, [(4, 5, 20.25, 40)])), ["pawn", "king"])

    assert _stored(figure).size == (32, 24)
    assert 'viewBox="0 0 64 48"' in figure
    assert figure.count('d="M4 5H20.2V40H4z"') == 2, "a dark line, and the coloured one on it"
    assert 'aria-label="0.png: 1 pawn"' in figure
    assert "<bdi>pawn</bdi>" in figure
    assert "training, 64x48" in figure


def test_a_part_of_an_image_is_shown_with_its_boxes(tmp_path: Path) -> None:
    figure = draw(_order(_record(tmp_path, [(30, 20, 40, 30)]), (24, 16, 56, 48)), ["pawn"])

    assert 'viewBox="0 0 32 32"' in figure
    assert 'd="M6 4H16V14H6z"' in figure


def test_an_image_without_boxes_says_so(tmp_path: Path) -> None:
    figure = draw(_order(_record(tmp_path, [])), ["pawn"])

    assert 'aria-label="0.png: no boxes"' in figure
    assert "<path" not in figure


def test_only_the_largest_of_very_many_boxes_are_drawn(tmp_path: Path) -> None:
    boxes = [(0.0, 0.0, 1 + place / 20, 1 + place / 20) for place in range(MOST_BOXES + 5)]
    figure = draw(_order(_record(tmp_path, boxes)), ["pawn"])

    assert figure.count("M0 0") == 2 * MOST_BOXES
    assert f"the {MOST_BOXES} largest of {MOST_BOXES + 5} boxes are drawn" in figure
    assert "H1V1" not in figure


def test_an_image_that_is_gone_is_an_error_with_a_fix(tmp_path: Path) -> None:
    image = _record(tmp_path, [])
    image.path.unlink()

    with pytest.raises(DataError, match=r"0\.png.*\n  fix: "):
        draw(_order(image), ["pawn"])


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ((100, 100, 110, 120), (57, 62, 153, 158)),  # 96 pixels at least
        ((0, 0, 10, 10), (0, 0, 96, 96)),
        ((390, 290, 400, 300), (304, 204, 400, 300)),
        ((100, 100, 150, 180), (5, 20, 245, 260)),  # three times the box
        ((0, 0, 400, 300), (0, 0, 400, 300)),
    ],
)
def test_what_is_around_a_box_is_inside_the_image(box: Box, area: Box, tmp_path: Path) -> None:
    image = _record(tmp_path, [box], size=(400, 300))

    assert around(image, image.boxes.astype(np.float64)) == area


def test_two_boxes_are_in_one_area(tmp_path: Path) -> None:
    image = _record(tmp_path, [(100, 100, 110, 110), (150, 100, 160, 110)], size=(400, 300))
    x1, y1, x2, y2 = around(image, image.boxes.astype(np.float64))

    assert x1 <= 100
    assert x2 >= 160
    assert (x2 - x1, y2 - y1) == (180, 180)


def test_a_page_of_noise_has_less_than_5_mb(tmp_path: Path) -> None:
    """Noise is what JPEG stores worst: 24 pictures, and 6 examples of each of 7 suspicions."""
    image = _record(tmp_path, [], size=(640, 640))
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    Image.fromarray(noise).save(image.path)
    sizes = [len(draw(_order(image, edge=edge), ["pawn"])) for edge in (EDGE, EXAMPLE_EDGE)]

    assert 24 * sizes[0] + 6 * 7 * sizes[1] < 5e6
