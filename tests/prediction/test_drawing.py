from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smnas_optuna.colours import class_colour
from smnas_optuna.prediction.drawing import draw_detections
from smnas_optuna.prediction.fonts import Fonts
from smnas_optuna.runtime.detections import Detections

from .detections import crowd, detections

FONTS = Fonts(others=[])
SIZES = [(64, 48), (640, 480), (4000, 300), (300, 1000), (1, 1), (500, 3), (3, 500)]


def plain(width: int, height: int, grey: int = 128) -> NDArray[np.uint8]:
    return np.full((height, width, 3), grey, np.uint8)


def drawn(pixels: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
    return np.asarray(draw_detections(pixels, found, FONTS))


@pytest.mark.parametrize("size", SIZES)
def test_without_objects_the_picture_is_the_image(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)

    picture = drawn(pixels, detections())

    factor = -(-480 // max(size))
    assert (picture[::factor, ::factor] == pixels).all()
    assert picture.shape[:2] == (factor * size[1], factor * size[0])


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("label", [1, 2, 3])
def test_a_line_has_the_colour_of_its_class_and_an_edge_that_the_ground_does_not_hide(label: int, grey: int) -> None:
    picture = drawn(plain(640, 480, grey), detections(((200, 200, 400, 400), label, 0.5)))

    row = picture[350, 190:210].astype(int)  # across the left line, below the label
    colour = np.array(class_colour(label))
    on_line = (row == colour).all(axis=1)
    assert 2 <= on_line.sum() <= 4
    assert on_line[9] or on_line[10]  # where the box ends
    outside, inside = row[on_line.argmax() - 1], row[on_line.argmax() + on_line.sum()]
    assert set(outside.tolist()) in ({0}, {255})
    assert (inside == outside).all()
    assert max(abs(outside - grey).max(), abs(colour - grey).max()) > 100
    assert (row[:5] == grey).all()
    assert (row[-5:] == grey).all()


def test_a_label_is_filled_with_the_colour_of_its_class_above_the_box() -> None:
    picture = drawn(plain(640, 480), detections(((200, 200, 400, 400), 1, 0.5)))

    label = picture[185:198, 202:240]
    assert (label == class_colour(1)).all(axis=2).mean() > 0.5
    assert (label.sum(axis=2) < 100).any()  # its text is black


def test_the_higher_score_lies_on_top() -> None:
    boxes = [((200, 200, 400, 400), 1, 0.9), ((200, 200, 400, 400), 2, 0.8)]

    picture = drawn(plain(640, 480), detections(*boxes))

    assert (picture[300, 195:205] == class_colour(1)).all(axis=1).any()
    assert not (picture[300, 195:205] == class_colour(2)).all(axis=1).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 80])
def test_any_number_of_objects_is_drawn_into_an_image_of_any_size(size: tuple[int, int], count: int) -> None:
    width, height = size

    picture = drawn(plain(width, height), crowd(count, width, height))

    assert (picture != 128).any()


def test_a_small_image_is_enlarged_with_its_boxes() -> None:
    picture = drawn(plain(64, 48), detections(((10, 20, 30, 40), 2, 0.5)))

    assert picture.shape == (8 * 48, 8 * 64, 3)
    assert (picture[8 * 20 : 8 * 40, 78:83] == class_colour(2)).all(axis=2).any(axis=1).mean() > 0.9


def test_a_long_name_loses_its_end_and_keeps_its_score() -> None:
    def label(name: str, score: float) -> NDArray[np.bool_]:
        picture = drawn(plain(640, 480), detections(((50, 100, 600, 400), 1, score), names=[name]))
        filled: NDArray[np.bool_] = (picture[85:98] == class_colour(1)).all(axis=2)
        return filled

    long = label(80 * "n", 0.5)
    assert 3 * label("cat", 0.5).any(axis=0).sum() < long.any(axis=0).sum() <= 16 * 12 + 4
    assert (label(90 * "n", 0.5) == long).all()
    assert (label(80 * "n", 0.7) != long).any()
    assert (label(1_000_000 * "n", 0.5) == long).all()  # at once


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (-9, -9, 3, 3), (600, 400, 900, 900), (640, 480, 640, 480)])
def test_a_box_without_area_or_beyond_the_image_is_drawn_inside_it(box: tuple[float, float, float, float]) -> None:
    assert (drawn(plain(640, 480), detections((box, 1, 0.5))) == class_colour(1)).all(axis=2).any()


def test_no_pixel_of_the_image_itself_changes() -> None:
    pixels = plain(640, 480)

    drawn(pixels, crowd(20, 640, 480))

    assert (pixels == 128).all()
