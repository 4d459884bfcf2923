from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area, box_iou, clip_boxes_to_image, remove_small_boxes

from smnas_optuna.models.boxes import (
    MAX_GROWTH,
    Weights,
    box_areas,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    gather_rows,
    intersections,
    pairwise_iou,
    shorter_edges,
)

from .tiny_detectors import random_boxes

weightings = pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (20.0, 30.0, 7.0, 0.5)])


def _batch(seed: int, images: int = 3, count: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([random_boxes(generator, count) for _ in range(images)])


@weightings
def test_encoding_is_torchvisions(weights: Weights) -> None:
    boxes, references = _batch(0), _batch(1)

    deltas = encode_boxes(boxes, references, weights)

    for mine, own, its in zip(deltas, boxes, references, strict=True):
        torch.testing.assert_close(mine, BoxCoder(weights).encode_single(own, its), atol=1e-5, rtol=1e-5)
    assert deltas.abs().max() > 1


@weightings
def test_decoding_is_torchvisions(weights: Weights) -> None:
    references = _batch(1)
    deltas = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(2)) * torch.tensor(weights)
    deltas[0, 0, 2:] = 1000.0  # grows by the most there is

    boxes = decode_boxes(deltas, references, weights)

    for mine, own, its in zip(boxes, deltas, references, strict=True):
        torch.testing.assert_close(mine, BoxCoder(weights).decode_single(own, its), atol=1e-4, rtol=1e-5)
    grown = (boxes[0, 0, 2:] - boxes[0, 0, :2]) / (references[0, 0, 2:] - references[0, 0, :2])
    torch.testing.assert_close(grown, torch.full((2,), math.exp(MAX_GROWTH)))


@weightings
def test_decoding_inverts_encoding(weights: Weights) -> None:
    boxes, references = _batch(0), _batch(1)

    torch.testing.assert_close(
        decode_boxes(encode_boxes(boxes, references, weights), references, weights), boxes, atol=1e-4, rtol=1e-5
    )


def test_one_set_of_references_serves_all_images_and_all_classes() -> None:
    references = _batch(1)[0]
    deltas = torch.randn(3, 40, 5, 4, generator=torch.Generator().manual_seed(2)) / 4

    boxes = decode_boxes(deltas, references[:, None])

    assert boxes.shape == deltas.shape
    assert torch.equal(boxes[2, :, 3], decode_boxes(deltas[2, :, 3], references))


def test_clipping_is_torchvisions_at_each_images_own_size() -> None:
    boxes = _batch(0) * 2 - 32
    sizes = torch.tensor([[48, 64], [10, 20], [64, 7]])

    clipped = clip_boxes(boxes, sizes)
    by_class = clip_boxes(boxes[:, :, None].expand(-1, -1, 2, -1), sizes)

    for mine, its, size in zip(clipped, boxes, sizes.tolist(), strict=True):
        assert torch.equal(mine, clip_boxes_to_image(its, size))
    assert torch.equal(by_class, torch.stack([clipped, clipped], dim=2))
    assert not torch.equal(clipped, boxes)


def test_overlaps_are_torchvisions() -> None:
    boxes, others = _batch(0), _batch(1, count=25)

    iou = pairwise_iou(boxes, others)

    assert iou.shape == (3, 40, 25)
    for mine, own, its in zip(iou, boxes, others, strict=True):
        assert torch.equal(mine, box_iou(own, its))
    assert torch.equal(pairwise_iou(boxes, others[1])[2], box_iou(boxes[2], others[1]))
    assert torch.equal(box_areas(boxes[0]), box_area(boxes[0]))
    assert (iou > 0.3).any()


def test_boxes_without_area_overlap_nothing_and_give_no_nan() -> None:
    boxes = torch.tensor([[3.0, 4.0, 3.0, 9.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 9.0]])

    assert torch.equal(pairwise_iou(boxes, boxes), torch.diag(torch.tensor([0.0, 0.0, 1.0])))


def test_intersections_of_drawn_boxes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 1.0, 6.0, 3.0], [5.0, 5.0, 7.0, 9.0]])

    assert intersections(boxes, boxes).tolist() == [[16, 4, 0], [4, 8, 0], [0, 0, 8]]


def test_edges_are_those_torchvision_drops_small_boxes_by() -> None:
    boxes = _batch(0)[0]

    assert torch.equal((shorter_edges(boxes) >= 8).nonzero()[:, 0], remove_small_boxes(boxes, 8))
    assert 0 < len(remove_small_boxes(boxes, 8)) < len(boxes)


@pytest.mark.parametrize("trailing", [(), (4,), (2, 3)], ids=str)
def test_rows_are_gathered_image_by_image(trailing: tuple[int, ...]) -> None:
    rows = torch.randn(2, 5, *trailing, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[4, 0, 0], [1, 3, 2]])

    assert torch.equal(gather_rows(rows, index), torch.stack([rows[i][index[i]] for i in range(2)]))
    assert not gather_rows(rows[:, :0], index).any()
    assert gather_rows(rows[:, :0], index).shape == (2, 3, *trailing)
