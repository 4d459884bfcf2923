from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from smnas_optuna.models.detections import FIXED_CANDIDATES, NO_SCORE, Candidates, Selection

from .tiny_detectors import build, kinds, make_batch, random_boxes, spread_predictions

SELECTION = Selection(score_threshold=0.3, nms_iou=0.5, max_detections=20)


def _candidates(seed: int, count: int = 200, images: int = 3) -> Candidates:
    """Of three classes, many of them overlapping, with duplicates; places without a candidate among them."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.stack([random_boxes(generator, count) for _ in range(images)])
    boxes[:, count // 2 :: 3] = boxes[:, : len(range(count // 2, count, 3))]
    scores = torch.rand(images, count, generator=generator)
    scores[:, ::7] = NO_SCORE
    return Candidates(boxes=boxes, labels=torch.randint(1, 4, (images, count), generator=generator), scores=scores)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("most", [5, 20, 1000])
def test_a_selection_in_fixed_time_is_the_exact_one(seed: int, most: int) -> None:
    candidates, selection = _candidates(seed), replace(SELECTION, max_detections=most)

    fixed = selection.in_fixed_time(candidates)

    assert fixed.settled
    for image, exact in enumerate(selection.exact(candidates)):
        count = int(fixed.counts[image])
        assert 0 < count == len(exact["boxes"]) <= most
        for name, value in exact.items():
            assert torch.equal(getattr(fixed, name)[image, :count], value), name


def test_nothing_above_the_threshold_is_no_detection() -> None:
    candidates = _candidates(0)
    low = replace(candidates, scores=candidates.scores * 0.2)

    fixed = SELECTION.in_fixed_time(low)

    assert fixed.settled
    assert fixed.counts.tolist() == [0, 0, 0]
    assert [len(each["boxes"]) for each in SELECTION.exact(low)] == [0, 0, 0]


@pytest.mark.parametrize("above", [FIXED_CANDIDATES, FIXED_CANDIDATES + 1])
def test_more_than_there_are_places_for_is_told(above: int) -> None:
    scores = torch.full((2, 2 * FIXED_CANDIDATES), 0.1)
    scores[1, :above] = torch.linspace(1, 0.5, above)
    boxes = torch.zeros(2, 2 * FIXED_CANDIDATES, 4)
    boxes[..., 0] = torch.arange(2 * FIXED_CANDIDATES) * 2  # none overlaps
    boxes[..., 2:] = boxes[..., :2] + 1
    candidates = Candidates(boxes=boxes, labels=torch.ones_like(scores, dtype=torch.int64), scores=scores)

    assert SELECTION.in_fixed_time(candidates).settled == (above <= FIXED_CANDIDATES)


def test_a_chain_that_is_not_finished_is_told() -> None:
    left = torch.arange(100) * 2.0  # each overlaps the next by two thirds
    boxes = torch.stack((left, torch.zeros(100), left + 10, torch.ones(100)), dim=1)[None]
    candidates = Candidates(
        boxes=boxes, labels=torch.ones(1, 100, dtype=torch.int64), scores=torch.linspace(1, 0.5, 100)[None]
    )

    assert not SELECTION.in_fixed_time(candidates).settled


@kinds
@torch.inference_mode()
def test_a_detector_detects_the_same_in_fixed_time(arch: str) -> None:
    detector, batch = build(arch).eval(), make_batch()
    spread_predictions(detector)
    candidates = detector.candidates(batch, fixed_time=True)

    fixed = detector.select_in_fixed_time(candidates, batch)

    assert fixed.settled or candidates.scores.gt(0).sum(dim=1).max() > FIXED_CANDIDATES
    for image, exact in enumerate(detector.select(candidates, batch)):
        count = int(fixed.counts[image])
        if fixed.settled:
            assert 0 < count == len(exact["boxes"])
            for name, value in exact.items():
                torch.testing.assert_close(getattr(fixed, name)[image, :count], value)
