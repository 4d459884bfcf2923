from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from smnas_optuna.evaluation.matching import match_images
from smnas_optuna.report.figures import gallery
from smnas_optuna.report.figures.gallery import (
    MOST_IMAGES,
    Named,
    _draw,
    _draw_boxes,
    _worst,
    detected_boxes,
    free_place,
    save_false_png,
    save_missed_png,
    truth_boxes,
)

from ...evaluation.evaluated_data import dataset, detection, drawn, evaluated, with_images

LEFT, MIDDLE, RIGHT = (0.0, 0.0, 20.0, 20.0), (40.0, 0.0, 20.0, 20.0), (80.0, 0.0, 20.0, 20.0)
IMAGE = (0.0, 0.0, 200.0, 100.0)


def test_mistakes_are_named_with_what_is_there_and_what_was_said() -> None:
    data = dataset([(1, 0, LEFT), (1, 0, MIDDLE), (1, 1, RIGHT)])
    found = [detection(1, 0, LEFT, 0.9), detection(1, 1, MIDDLE, 0.8)]
    (match,) = match_images(data, found, data.category_ids, [0.5, 0.5])

    assert truth_boxes(match, ["cat", "dog"]) == [
        Named(box=LEFT, text="cat", wrong=False),
        Named(box=MIDDLE, text="cat (as dog)", wrong=True),
        Named(box=RIGHT, text="dog", wrong=True),
    ]
    assert detected_boxes(match, ["cat", "dog"]) == [
        Named(box=LEFT, text="cat 0.90", wrong=False),
        Named(box=MIDDLE, text="dog 0.80 (is cat)", wrong=True),
    ]


def test_among_many_boxes_only_mistakes_are_named() -> None:
    boxes = [(20.0 * x, 0.0, 15.0, 15.0) for x in range(9)]
    data = dataset([(1, 0, box) for box in boxes])
    (match,) = match_images(data, [detection(1, 0, boxes[0], 0.9)], data.category_ids, [0.5, 0.5])

    assert [each.text for each in truth_boxes(match, ["cat", "dog"])] == ["", *["cat"] * 8]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], (50, 40, 80, 50)),  # above the box
        ([(50, 40, 80, 50)], (50, 70, 80, 80)),  # below it
        ([(0, 30, 200, 50), (0, 70, 200, 90)], (50, 50, 80, 60)),  # inside
    ],
)
def test_labels_avoid_one_another(taken: list[tuple[float, ...]], expected: tuple[float, ...]) -> None:
    assert free_place((50, 50, 20, 20), 30, 10, taken, IMAGE) == expected  # type: ignore[arg-type]


def test_labels_go_further_off_where_all_near_places_are_taken() -> None:
    near: list[tuple[float, float, float, float]] = [(0, 40, 200, 80)]

    assert free_place((50, 50, 20, 20), 30, 10, near, IMAGE) == (50, 30, 80, 40)


def test_a_right_box_is_seen_below_a_false_one_of_the_same_place() -> None:
    axes = Figure().add_subplot()
    image = dataset([(1, 0, LEFT)]).images[0]

    _draw_boxes(axes, [Named(box=LEFT, text="", wrong=wrong) for wrong in (True, False)], image, inches=4)

    *white, right, false = axes.patches
    assert [to_hex(each.get_edgecolor()) for each in white] == ["#ffffff", "#ffffff"]
    assert [to_hex(each.get_edgecolor()) for each in (right, false)] == [gallery.RIGHT.lower(), gallery.WRONG.lower()]
    assert right.get_linewidth() == false.get_linewidth() < white[0].get_linewidth()
    assert right.get_linestyle() == "-"
    assert false.get_linestyle() == gallery.DASHES


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (190, 90, 10, 10), (180, 0, 20, 100), (-5, 95, 30, 5)])
def test_labels_stay_in_the_image(box: tuple[float, ...]) -> None:
    left, top, right, bottom = free_place(box, 30, 10, [], IMAGE)

    assert left >= 0
    assert top >= 0
    assert right <= 200
    assert bottom <= 100


def test_the_worst_images_come_first(tmp_path: Path) -> None:
    data, found = drawn(2, images=12)
    done = evaluated(with_images(data, tmp_path), found)
    missed = [int(match.missed.sum()) for match in done.matches]

    shown = _worst(done, missed)

    counts = [int(match.missed.sum()) for _, match in shown]
    assert counts == sorted(missed, reverse=True)[:MOST_IMAGES]
    assert all(image.image_id == match.image_id for image, match in shown)
    figure = _draw(done, shown, "title", "nothing")
    assert any(text.get_text() == f"a.onnx: {done.subject.arch}" for text in figure.texts)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 2 * MOST_IMAGES
    assert titles[0] == f"{shown[0][0].path.name}: {counts[0]} of {len(shown[0][1].truth)} objects missed"


def test_images_without_mistakes_are_not_shown() -> None:
    done = evaluated(dataset([(1, 0, LEFT)], images=3), [detection(1, 0, LEFT, 0.9)])

    assert _worst(done, [0, 0, 0]) == []
    figure = _draw(done, [], "title", "no object is missed")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no object is missed"]


def test_galleries_are_png_files(tmp_path: Path) -> None:
    data, found = drawn(4, images=3)
    done = evaluated(with_images(data, tmp_path), found)

    save_missed_png(done, tmp_path / "missed.part")
    save_false_png(done, tmp_path / "false.part")

    for name in ("missed", "false"):
        with Image.open(tmp_path / f"{name}.part") as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
