from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from smnas_optuna.data import Splits
from smnas_optuna.overview import sections
from smnas_optuna.overview.look import Overview, look

from .made import dataset
from .test_look import SETTINGS


@pytest.fixture
def overview(tmp_path: Path) -> Overview:
    """104 pawns and a king in two training images, of which one is crowded; one pawn for validation; no queen."""
    names = ("pawn", "king", "queen")
    crowded = [(0, 0, 30, 30)] * 104
    boxes, labels = [crowded, [(0, 0, 30, 15)], [(0, 0, 64, 48)]], [[1] * 104, [2], [1]]
    crowd = [[False] * 104, [False], [True]]
    train = dataset(tmp_path, boxes, labels=labels, crowd=crowd, names=names)
    val = dataset(tmp_path, [[(0, 0, 30, 30)]], names=names)
    return look("mine", tmp_path, Splits(train=train, val=val, content_hash=""), SETTINGS)


def _text(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *((0, "0 %"), (1e-6, "<0.1 %"), (0.001, "0.1 %"), (0.0449, "4.5 %"), (0.1, "10 %"), (0.5, "50 %")),
        *((0.994, "99 %"), (0.9999, "99 %"), (1, "100 %")),
    ],
)
def test_only_nothing_is_0_percent_and_only_all_is_100(share: float, text: str) -> None:
    assert sections.percent(share) == text


def test_splits_are_counted(overview: Overview) -> None:
    text = _text(sections.numbers(overview))

    assert "images 4 objects 106 classes 3" in text
    assert (
        "split images objects per image empty crowds training 3 105 1 0 to 104 1 1 validation 1 1 1 1 to 1 0 0" in text
    )


def test_classes_are_counted_the_most_frequent_first(overview: Overview) -> None:
    text = _text(sections.classes(overview))

    assert text.endswith(
        "class training validation "
        "pawn id 1 104 99 % · 1 image 1 100 % · 1 image king id 2 1 1.0 % · 1 image none queen id 3 none none"
    )


def test_very_many_classes_are_not_all_shown(tmp_path: Path) -> None:
    names = [f"class {place}" for place in range(sections.MOST_CLASSES + 2)]
    train = dataset(tmp_path, [[(0, 0, 30, 30)]], labels=[[len(names)]], names=names)
    overview = look("mine", tmp_path, Splits(train=train, val=train, content_hash=""), SETTINGS)

    text = _text(sections.classes(overview))
    assert f"class training validation class {len(names) - 1} id {len(names)} 1 100 %" in text
    assert f"class {sections.MOST_CLASSES - 2} id" in text
    assert f"class {sections.MOST_CLASSES - 1} id" not in text
    assert text.endswith("2 classes with fewer training objects are not shown.")


def test_objects_per_image_stand_beside_what_a_detector_keeps(overview: Overview) -> None:
    text = _text(sections.per_image(overview))

    assert "0 25 % 1 50 % 2 0 %" in text
    assert text.endswith("max_detections 100 1 test_proposals 1,000 0 guided_proposals 300 0")


def test_sizes_are_in_pixels_of_the_image_and_of_the_inputs(overview: Overview) -> None:
    text = _text(sections.sizes(overview))

    assert "Sizes of images, width x height size share of images 64x48 100 %" in text
    assert "small, below 32² px 100 %" in text
    assert "Edges from 21 to 30 px, median 30 px." in text
    assert "The RPN's anchors are p2 32 px, p3 64 px, p4 128 px, p5 256 px, p6 512 px, with" in text
    assert "RetinaNet has three sizes on each level" in text
    assert "512x512 Images are resized by 8. Objects have a median edge of 240 px; 0 % are below 8 px, and" in text
    assert "128 - 181 p4 0.9 % 181 - 256 p5 99 %" in text


def test_a_bin_of_several_levels_says_so(tmp_path: Path) -> None:
    train = dataset(tmp_path, [[(0, 0, 2, 2)] * 50 + [(0, 0, 4000, 4000)]], size=(4000, 4000))
    overview = look("mine", tmp_path, Splits(train=train, val=train, content_hash=""), SETTINGS)
    text = _text(sections.sizes(overview))

    assert "up to 4 p2 98 %" in text
    assert "181 - 256 p5 0 % 256 and more p5 and up 2.0 %" in text
