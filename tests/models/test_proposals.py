from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import box_iou

from smnas_optuna.models.proposals import NMS_IOU, LevelOutput, Proposals, flatten_level, select_proposals

from .tiny_detectors import random_boxes

NO_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
SIZES = torch.tensor([[48, 64], [64, 20], [64, 64]])
forms = pytest.mark.parametrize("fixed_time", [False, True], ids=["exact", "fixed time"])


def _levels(seed: int = 0, places: tuple[int, ...] = (60, 25, 6)) -> list[LevelOutput]:
    generator = torch.Generator().manual_seed(seed)
    return [
        LevelOutput(
            logits=torch.randn(3, count, generator=generator),
            deltas=torch.randn(3, count, 4, generator=generator) * 0.1,
            references=random_boxes(generator, count),
        )
        for count in places
    ]


def _select(levels: list[LevelOutput], count: int = 20, *, fixed_time: bool = False) -> Proposals:
    return select_proposals(levels, SIZES, count, weights=NO_WEIGHTS, fixed_time=fixed_time)


def test_outputs_are_flattened_as_torchvisions_are() -> None:
    generator = torch.Generator().manual_seed(0)
    grids = [(4, 6), (2, 3), (1, 2)]
    logits = [torch.randn(2, 3, *grid, generator=generator) for grid in grids]
    deltas = [torch.randn(2, 12, *grid, generator=generator) for grid in grids]

    expected_logits, expected_deltas = concat_box_prediction_layers(list(logits), list(deltas))

    assert torch.equal(torch.cat([flatten_level(each, 1) for each in logits], dim=1).flatten(0, 1), expected_logits)
    assert torch.equal(torch.cat([flatten_level(each, 4) for each in deltas], dim=1).flatten(0, 1), expected_deltas)


@pytest.mark.parametrize("count", [1, 5, 20, 500])
def test_both_forms_of_suppression_agree(count: int) -> None:
    for seed in range(20):
        exact, fixed = (_select(_levels(seed), count, fixed_time=form) for form in (False, True))

        assert torch.equal(exact.valid, fixed.valid)
        assert torch.equal(exact.boxes, fixed.boxes)
        assert exact.valid.any()


@forms
def test_proposals_are_apart_within_a_level_inside_their_image_and_first(fixed_time: bool) -> None:
    (level,) = _levels(places=(80,))
    crowded = random_boxes(torch.Generator().manual_seed(1), 80, 20.0, smallest=12.0)

    found = _select([replace(level, references=crowded)], 70, fixed_time=fixed_time)

    assert found.boxes.shape == (3, 70, 4)
    for boxes, valid, size in zip(found.boxes, found.valid, SIZES, strict=True):
        number = int(valid.sum())
        assert 5 < number < 70
        assert valid[:number].all()
        assert not boxes[number:].any()
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= size.flip(0)).all()
        assert (box_iou(boxes[:number], boxes[:number]).triu(1) <= NMS_IOU).all()


@forms
def test_levels_do_not_suppress_one_another(fixed_time: bool) -> None:
    (level,) = _levels(places=(30,))
    twin = replace(level, logits=level.logits - 10)

    alone, both = (_select(levels, 60, fixed_time=fixed_time) for levels in ([level], [level, twin]))

    assert (both.valid.sum(dim=1) == 2 * alone.valid.sum(dim=1)).all()


@forms
def test_the_best_of_all_levels_come_first(fixed_time: bool) -> None:
    """Of boxes that are far apart, so that only scores decide."""
    corners = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)) * 8
    references = torch.cat((corners, corners + 6), dim=1)
    logits = torch.randn(3, 36, generator=torch.Generator().manual_seed(3))
    levels = [
        LevelOutput(logits=logits[:, part], deltas=torch.zeros(3, 18, 4), references=references[part])
        for part in (slice(0, 18), slice(18, 36))
    ]

    found = select_proposals(levels, torch.tensor([[64, 64]] * 3), 10, weights=NO_WEIGHTS, fixed_time=fixed_time)

    best = logits.topk(10, dim=1).indices
    assert found.valid.all()
    torch.testing.assert_close(found.boxes, references[best])


@forms
def test_where_nothing_may_be_proposed_nothing_is(fixed_time: bool) -> None:
    (level,) = _levels(places=(40,))
    shut = torch.arange(40) % 2 == 0
    open_only = LevelOutput(
        logits=level.logits[:, ~shut], deltas=level.deltas[:, ~shut], references=level.references[~shut]
    )

    some = _select([replace(level, logits=level.logits.masked_fill(shut, -math.inf))], fixed_time=fixed_time)
    none = _select([replace(level, logits=torch.full_like(level.logits, -math.inf))], fixed_time=fixed_time)

    expected = _select([open_only], fixed_time=fixed_time)
    assert expected.valid.any()
    assert torch.equal(some.valid, expected.valid)
    torch.testing.assert_close(some.boxes, expected.boxes)
    assert not none.valid.any()
    assert not none.boxes.any()


@forms
def test_boxes_outside_their_image_are_dropped(fixed_time: bool) -> None:
    references = torch.tensor([[0.0, 0.0, 10.0, 10.0], [30.0, 0.0, 40.0, 10.0], [0.0, 50.0, 9.0, 60.0]])
    level = LevelOutput(logits=torch.tensor([[1.0, 2.0, 3.0]] * 3), deltas=torch.zeros(3, 3, 4), references=references)

    found = _select([level], fixed_time=fixed_time)

    # images of 48 x 64, 64 x 20 and 64 x 64 (height x width), best first
    assert found.valid.tolist() == [[True, True, False], [True, True, False], [True, True, True]]
    torch.testing.assert_close(found.boxes[0, :2], references[[1, 0]])
    torch.testing.assert_close(found.boxes[1, :2], references[[2, 0]])


def test_references_may_differ_from_image_to_image() -> None:
    (level,) = _levels(places=(30,))
    moved: Tensor = torch.stack([level.references, level.references / 2, level.references])

    found, alike = _select([replace(level, references=moved)]), _select([level])

    assert torch.equal(found.boxes[::2], alike.boxes[::2])
    assert not torch.equal(found.boxes[1], alike.boxes[1])
    halved = select_proposals(
        [replace(level, references=level.references / 2)], SIZES, 20, weights=NO_WEIGHTS, fixed_time=False
    )
    assert torch.equal(found.boxes[1], halved.boxes[1])


def test_no_gradient_flows_through_proposals() -> None:
    (level,) = _levels(places=(30,))

    assert not _select([replace(level, deltas=level.deltas.requires_grad_())]).boxes.requires_grad
