from __future__ import annotations

from collections import Counter

import numpy as np

from smnas_optuna.overview.sample import MOST, choose

from .made import objects

BOX = (0, 0, 30, 30)


def test_a_large_data_set_has_some_of_each_kind() -> None:
    counts = [2] * 300
    counts[17], counts[40] = 30, 29
    boxes = [[BOX] * count for count in counts]
    labels = [[1] * count for count in counts]
    boxes[100], boxes[101] = [BOX, (0, 0, 2, 2)], [BOX, (0, 0, 99, 99)]
    labels[102] = [1, 2]
    every = {"training": objects(boxes, labels), "validation": objects([[BOX]] * 50), "test": objects([[BOX]] * 50)}
    chosen = choose(every)

    assert len(chosen) == MOST
    assert len({(each.split, each.image) for each in chosen}) == MOST, "each is shown once"
    assert {each.split for each in chosen} == {"training", "validation"}, "nobody looks at the test images"
    reasons = {(each.image, each.why) for each in chosen if each.split == "training"}
    assert {(17, "most objects"), (40, "most objects"), (100, "smallest objects"), (101, "largest objects")} <= reasons
    assert (102, "rarest classes") in reasons
    assert Counter(each.why for each in chosen)["at random"] >= 12
    assert choose(every) == chosen, "the same ones each time"


def test_all_images_of_a_small_data_set_are_shown() -> None:
    every = {"training": objects([[BOX], [BOX]]), "validation": objects([[], [BOX]])}

    assert sorted((each.split, each.image) for each in choose(every)) == [
        *(("training", 0), ("training", 1), ("validation", 0), ("validation", 1)),
    ]


def test_the_images_at_random_are_spread_over_the_data_set() -> None:
    every = {"training": objects([[BOX]] * 10_000), "validation": objects([[BOX]])}
    images = [each.image for each in choose(every) if each.why == "at random" and each.split == "training"]

    assert 2_000 < np.mean(images) < 8_000
