from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from smnas_optuna.models.nms import ROUNDS, exact_nms, fixpoint_nms

from .tiny_detectors import random_boxes

LINKS = 400


def _drawn(seed: int) -> tuple[Tensor, float]:
    """Boxes best first: spread or crowded, with duplicates and with ties in their overlaps; and an IoU."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 60, (1,), generator=generator))
    canvas = (20.0, 64.0, 200.0)[seed % 3]
    boxes = random_boxes(generator, count, canvas)
    if seed % 2:
        boxes = boxes.round()  # whole numbers: ties, and boxes without area
    if seed % 5 == 0:
        boxes = boxes[torch.randint(0, count, (count,), generator=generator)]  # duplicates
    # Of whole numbers an IoU may be just that. 0.3 would be rounded up to float32, and torchvision, which compares with
    # the float64 on a CPU, would take one for more than it.
    return boxes, (0.25, 0.5, 0.7)[seed // 3 % 3]


def _falling(count: int) -> Tensor:
    return torch.linspace(1, 0, count + 2)[1:-1]


def _kept(boxes: Tensor, iou: float) -> Tensor:
    """What torchvision's greedy suppression keeps of boxes that are sorted."""
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    keep[nms(boxes, _falling(len(boxes)), iou)] = True
    return keep


def test_the_settled_fixpoint_is_greedy_suppression() -> None:
    dropped = duplicates = 0
    for seed in range(1000):
        boxes, iou = _drawn(seed)

        valid = torch.ones(len(boxes), dtype=torch.bool)
        keep, settled = fixpoint_nms(boxes, valid, iou, rounds=len(boxes) + 1)

        expected = _kept(boxes, iou)
        assert torch.equal(keep, expected), seed
        assert settled
        dropped += int((~keep).sum())
        duplicates += len(boxes) - len(set(map(tuple, boxes.tolist())))
    assert dropped > 5000
    assert duplicates > 500


def test_random_proposals_settle_within_the_rounds() -> None:
    for seed in range(20):
        boxes = random_boxes(torch.Generator().manual_seed(seed), 500, 128.0)

        keep, settled = fixpoint_nms(boxes, torch.ones(500, dtype=torch.bool), 0.7)

        assert settled
        assert torch.equal(keep, _kept(boxes, 0.7))
        assert not keep.all()


def _chain(links: int) -> Tensor:
    """Boxes of which each overlaps the next by two thirds and no other by half."""
    left = torch.arange(links) * 2.0
    return torch.stack((left, torch.zeros(links), left + 10, torch.ones(links)), dim=1)


def test_a_long_chain_needs_as_many_rounds_as_links() -> None:
    chain = _chain(LINKS)
    valid = torch.ones(LINKS, dtype=torch.bool)

    greedy = _kept(chain, 0.5)

    assert torch.equal(greedy, torch.arange(LINKS) % 2 == 0)  # every other link
    assert torch.equal(fixpoint_nms(chain, valid, 0.5, rounds=LINKS)[0], greedy)
    some, settled = fixpoint_nms(chain, valid, 0.5)
    assert not settled
    # Settled as far as the rounds reach; behind that an even number of rounds keeps everything.
    assert torch.equal(some[:ROUNDS], greedy[:ROUNDS])
    assert some[ROUNDS:].all()
    assert not fixpoint_nms(chain, valid, 0.5, rounds=ROUNDS + 1)[0][ROUNDS + 1 :].any()


@pytest.mark.parametrize("links", range(1, ROUNDS + 2))
def test_a_chain_as_long_as_the_rounds_is_settled(links: int) -> None:
    chain = _chain(links)

    keep, settled = fixpoint_nms(chain, torch.ones(links, dtype=torch.bool), 0.5)

    assert torch.equal(keep, _kept(chain, 0.5))
    assert settled == (links <= ROUNDS), "one more link, and the last round has settled it: nobody can know"


def test_what_is_not_valid_is_not_kept_and_suppresses_nothing() -> None:
    for seed in range(50):
        boxes, iou = _drawn(seed)
        valid = torch.rand(len(boxes), generator=torch.Generator().manual_seed(seed)) < 0.7
        expected = torch.zeros_like(valid)
        expected[valid] = _kept(boxes[valid], iou)

        assert torch.equal(fixpoint_nms(boxes, valid, iou, rounds=len(boxes))[0], expected)
        groups = torch.zeros(len(boxes), dtype=torch.int64)
        exact = exact_nms(boxes[None], _falling(len(boxes))[None], groups, valid[None], iou)
        assert torch.equal(exact[0], expected)


def test_images_do_not_know_one_another() -> None:
    boxes = torch.stack([random_boxes(torch.Generator().manual_seed(seed), 50) for seed in range(4)])
    valid = torch.ones(4, 50, dtype=torch.bool)

    together, _ = fixpoint_nms(boxes, valid, 0.5)

    assert torch.equal(together, torch.stack([fixpoint_nms(each, valid[0], 0.5)[0] for each in boxes]))
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("shared", [True, False], ids=["one grouping", "each image's own"])
def test_exact_suppression_is_torchvisions(shared: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.stack([random_boxes(generator, 200) for _ in range(3)])
    scores = torch.rand(3, 200, generator=generator)
    scores[:, 100:150] = scores[:, :50]  # ties
    groups = torch.randint(0, 4, (3, 200), generator=generator)
    groups = groups[0] if shared else groups

    keep = exact_nms(boxes, scores, groups, torch.ones(3, 200, dtype=torch.bool), 0.5)

    for image in range(3):
        expected = batched_nms(boxes[image], scores[image], groups if shared else groups[image], 0.5)
        assert keep[image].nonzero()[:, 0].tolist() == sorted(expected.tolist())
    one_group = exact_nms(boxes, scores, torch.zeros_like(groups), torch.ones(3, 200, dtype=torch.bool), 0.5)
    assert one_group.sum() < keep.sum() < keep.numel()


def test_nothing_is_kept_of_nothing() -> None:
    none = torch.zeros(2, 5, dtype=torch.bool)
    boxes, scores = torch.zeros(2, 5, 4), torch.zeros(2, 5)

    assert not exact_nms(boxes, scores, torch.zeros(5, dtype=torch.int64), none, 0.5).any()
    assert not fixpoint_nms(boxes, none, 0.5)[0].any()
    assert fixpoint_nms(boxes[:, :0], none[:, :0], 0.5)[0].shape == (2, 0)


def test_on_the_meta_device_only_the_shape_is_known() -> None:
    boxes = torch.zeros(2, 7, 4, device="meta")

    kept = exact_nms(boxes, boxes[..., 0], torch.zeros(7, device="meta"), boxes[..., 0] > 0, 0.5)

    assert (kept.shape, kept.dtype, kept.device.type) == ((2, 7), torch.bool, "meta")
