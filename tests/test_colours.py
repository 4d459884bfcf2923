from __future__ import annotations

import math
from itertools import combinations

import pytest

from smnas_optuna.colours import BLACK, WHITE, class_colour, contrast, text_colour

LABELS = range(1, 81)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast(BLACK, WHITE) == pytest.approx(21)
    assert contrast(WHITE, BLACK) == pytest.approx(21)
    assert contrast((255, 0, 0), WHITE) == pytest.approx(4.0, abs=0.01)  # published: 3.998


@pytest.mark.parametrize("label", LABELS)
def test_text_can_be_read_on_the_colour_of_its_class(label: int) -> None:
    colour = class_colour(label)

    assert contrast(colour, text_colour(colour)) >= 4.5  # WCAG 2.1, level AA


def test_the_colours_of_eighteen_classes_are_far_apart() -> None:
    distances = [math.dist(*map(class_colour, pair)) for pair in combinations(range(1, 19), 2)]

    assert min(distances) > 70


@pytest.mark.parametrize("label", LABELS)
def test_neighbouring_classes_differ_much(label: int) -> None:
    assert min(math.dist(class_colour(label), class_colour(label + step)) for step in (1, 2, 3, 4)) > 70
