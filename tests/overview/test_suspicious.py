from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from smnas_optuna.overview.objects import Objects
from smnas_optuna.overview.suspicious import MOST_EXAMPLES, Example, Finding, findings, near_pairs, rare_classes

from .made import objects, scattered

USUAL = [(0, 0, 40, 40), (50, 50, 80, 90)]


def _only(every: dict[str, Objects]) -> Finding:
    (found,) = findings(every)
    return found


def test_nothing_is_suspicious_in_usual_data() -> None:
    assert findings({"training": objects([USUAL] * 3), "validation": objects([USUAL])}) == []


@pytest.mark.parametrize(
    ("box", "what"),
    [
        ((0, 0, 80, 8), "Boxes at least 10 times as long as wide"),
        ((0, 0, 8, 80), "Boxes at least 10 times as long as wide"),
        ((1, 1, 99.5, 99.5), "Boxes that cover 95 % of their image or more"),
        ((5, 5, 9, 9), "Boxes of up to 4x4 pixels of their image"),
    ],
)
def test_suspicious_boxes_are_found_with_their_places(box: tuple[float, ...], what: str) -> None:
    found = _only({"training": objects([USUAL]), "validation": objects([USUAL, [*USUAL, box]])})

    assert found.what == what
    assert (found.count, found.of, found.by_split) == (1, 7, {"validation": 1})
    assert found.examples == (Example(split="validation", image=1, objects=(4,)),)


@pytest.mark.parametrize(
    "box", [(0, 0, 79, 8), (0, 0, 97, 97), (5, 5, 9.1, 9)], ids=["not so long", "not the whole", "not so tiny"]
)
def test_what_is_just_usual_is_not_found(box: tuple[float, ...]) -> None:
    assert findings({"training": objects([[box]]), "validation": objects([USUAL])}) == []


@pytest.mark.parametrize(("labels", "what"), [([1, 2], "different classes"), ([2, 2], "one class")])
def test_nearly_the_same_boxes_are_found_as_pairs(labels: list[int], what: str) -> None:
    pair = [(10, 10, 50, 50), (11, 10, 51, 51)]
    found = _only({"training": objects([USUAL, pair], [[1, 1], labels])})

    assert found.what == f"Pairs of boxes of {what} that are nearly the same"
    assert (found.count, found.of) == (1, None)
    assert found.examples == (Example(split="training", image=1, objects=(2, 3)),)


def test_images_without_objects_and_of_other_sizes_are_found() -> None:
    sizes = [(100, 100), (100, 100), (290, 290), (30, 30), (280, 280)]
    empty, far = findings({"training": objects([USUAL, [], USUAL, [(0, 0, 9, 9)], USUAL], sizes=sizes)})

    assert (empty.what, empty.count, empty.of) == ("Images without objects", 1, 5)
    assert empty.examples == (Example(split="training", image=1),)
    assert far.what.startswith("Images whose area is more than 8 times that of the median image")
    assert [example.image for example in far.examples] == [3, 2]  # the more extreme one first


def test_the_most_extreme_of_all_splits_are_the_examples() -> None:
    lengths = range(40, 80)
    every = {
        "training": objects([[(0, 2 * place, length, 2 * place + 2) for place, length in enumerate(lengths)]]),
        "validation": objects([[(0, 0, 95, 2)]]),
    }
    found = _only(every)

    assert found.count == 41
    assert found.by_split == {"training": 40, "validation": 1}
    assert len(found.examples) == MOST_EXAMPLES
    assert [example.split for example in found.examples] == ["validation", *["training"] * 5]
    assert found.examples[1].objects == (39,)


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_those_of_all_boxes_compared_with_all(seed: int) -> None:
    some = scattered(seed)
    boxes = torch.tensor(some.boxes)
    same = (box_iou(boxes, boxes).numpy() >= 0.6) & (some.image[:, None] == some.image[None])
    expected = np.argwhere(np.triu(same, 1)).tolist()

    assert near_pairs(some, 0.6).tolist() == expected
    assert expected, "there is something to compare"


def test_boxes_of_two_images_are_no_pair() -> None:
    assert near_pairs(objects([USUAL, USUAL])).tolist() == []


def test_classes_with_few_training_objects_are_rare() -> None:
    labels = [[3] * 9 + [2] * 10 + [4] * 2]
    some = objects([[(0, 0, 9, 9)] * 21], labels, num_classes=5)

    assert rare_classes(some) == [4, 3]
