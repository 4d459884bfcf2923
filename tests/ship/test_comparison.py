from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from smnas_optuna.ship.comparison import BOX_PX, SCORE, Agreement, Objects, agreement

SLOTS, THRESHOLD = 10, 0.05


def objects(count: int = 4, seed: int = 0) -> Objects:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 50, (count, 2))
    boxes = np.concatenate((corner, corner + random.uniform(5, 50, (count, 2))), axis=1)
    return Objects(
        boxes=boxes.astype(np.float32),
        labels=random.integers(1, 4, count),
        scores=np.sort(random.uniform(0.2, 1, count).astype(np.float32))[::-1],
    )


def changed(found: Objects, change: Callable[[Objects], None]) -> Objects:
    copied = Objects(boxes=found.boxes.copy(), labels=found.labels.copy(), scores=found.scores.copy())
    change(copied)
    return copied


def compare(expected: Objects, found: Objects, slots: int = SLOTS) -> Agreement:
    return agreement(expected, found, slots=slots, threshold=THRESHOLD)


def test_the_same_objects_are_equal() -> None:
    assert compare(objects(), objects()) == Agreement(compared=4, equal=4)
    assert compare(objects(0), objects(0)) == Agreement()
    assert compare(objects(0), objects(0)).holds


def test_the_order_of_equal_scores_does_not_count() -> None:
    tied = Objects(boxes=objects(2).boxes, labels=np.array([1, 2]), scores=np.array([0.5, 0.5], np.float32))
    turned = Objects(boxes=tied.boxes[::-1], labels=tied.labels[::-1], scores=tied.scores)

    assert compare(tied, turned) == Agreement(compared=2, equal=2)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.boxes.__setitem__((1, 2), found.boxes[1, 2] + 2 * BOX_PX),
        lambda found: found.labels.__setitem__(1, 7),
        lambda found: found.scores.__setitem__(1, found.scores[1] + 2 * SCORE),
    ],
    ids=["box", "label", "score"],
)
def test_a_difference_is_one(change: Callable[[Objects], None]) -> None:
    found = compare(objects(), changed(objects(), change))

    assert (found.compared, found.equal, found.holds) == (4, 3, False)


def test_small_differences_are_told() -> None:
    def change(found: Objects) -> None:
        found.boxes[2, 0] += BOX_PX / 2
        found.scores[0] -= SCORE / 2

    found = compare(objects(), changed(objects(), change))

    assert (found.compared, found.equal) == (4, 4)
    assert found.box_px == pytest.approx(BOX_PX / 2, rel=0.01)
    assert found.score == pytest.approx(SCORE / 2, rel=0.01)


def test_what_only_one_of_them_finds_is_a_difference() -> None:
    fewer = Objects(boxes=objects().boxes[:3], labels=objects().labels[:3], scores=objects().scores[:3])

    assert compare(objects(), fewer) == Agreement(compared=4, equal=3)
    assert compare(fewer, objects()) == Agreement(compared=4, equal=3)
    assert compare(objects(), objects(0)) == Agreement(compared=4, equal=0)


def test_ties_at_the_lowest_score_of_full_slots_and_at_the_threshold_are_not_compared() -> None:
    low = Objects(boxes=objects(1).boxes, labels=np.array([1]), scores=np.array([THRESHOLD + SCORE / 2], np.float32))
    last = changed(objects(), lambda found: found.boxes.__setitem__(3, 0.0))

    assert compare(low, objects(0)).compared == 0
    assert compare(objects(), last).equal == 3
    assert compare(objects(), last, slots=4) == Agreement(compared=3, equal=3)


def test_agreements_add_up() -> None:
    total = Agreement(compared=999, equal=999, box_px=0.001) + Agreement(compared=1, equal=0, score=1e-5)

    assert total == Agreement(compared=1000, equal=999, box_px=0.001, score=1e-5)
    assert total.holds
    assert not (total + Agreement(compared=1, equal=0)).holds


@pytest.mark.parametrize(
    ("compared", "lost", "holds"),
    [(1, 1, False), (99, 1, False), (100, 1, True), (100, 2, False), (1999, 2, False), (2000, 2, True)],
)
def test_few_detections_may_lack_their_equal(compared: int, lost: int, holds: bool) -> None:
    assert Agreement(compared=compared, equal=compared - lost).holds == holds
