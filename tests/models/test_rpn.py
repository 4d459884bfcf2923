from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from smnas_optuna.batch import Batch
from smnas_optuna.models.anchors import PyramidAnchors, rpn_anchors
from smnas_optuna.models.assign import random_keys
from smnas_optuna.models.rpn import NEGATIVE_IOU, POSITIVE_IOU, POSITIVE_SHARE, Rpn

from .tiny_detectors import NO_BOXES, TARGETS, KeyedSampler, make_batch, single, spread_predictions, targets

CHANNELS = 8
SIZES = [(48, 64), (40, 64), (48, 30)]
TRAIN, TEST = 50, 30
MANY = (TARGETS[0], targets([(3, 3, 20, 20), (15, 8, 28, 39), (1, 20, 9, 30)], [1, 1, 2]), TARGETS[2])
truths = pytest.mark.parametrize(
    "truth", [TARGETS, NO_BOXES, MANY], ids=["two, none and one", "no boxes", "every image has some"]
)
levels = pytest.mark.parametrize("levels", [range(2, 7), range(4, 5)], ids=["pyramid", "c4"])


def _features(levels: Sequence[int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {f"p{n}": torch.randn(3, CHANNELS, 64 // 2**n, 64 // 2**n, generator=generator) for n in levels}


def _alone(features: dict[str, Tensor], image: int) -> dict[str, Tensor]:
    return {name: each[image : image + 1] for name, each in features.items()}


def _keys(features: dict[str, Tensor], anchors: PyramidAnchors) -> Tensor:
    count = sum(len(each) for each in anchors.of(list(features.values())))
    return torch.rand(3, count, generator=torch.Generator().manual_seed(5))


def _rpn(levels: Sequence[int], samples: int, keys: Tensor | None = None) -> Rpn:
    torch.manual_seed(0)
    rpn = Rpn(
        CHANNELS,
        rpn_anchors(levels, 4.0),
        samples=samples,
        train_proposals=TRAIN,
        test_proposals=TEST,
        keys=random_keys if keys is None else lambda *_: keys,
    )
    spread_predictions(rpn)
    return rpn


class _Anchors(nn.Module):
    """Gives torchvision the anchors that we use: for its own it guesses the strides."""

    def __init__(self, anchors: PyramidAnchors) -> None:
        super().__init__()
        self.anchors = anchors

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        return [torch.cat(self.anchors.of(maps))] * len(images.image_sizes)


def _torchvisions(rpn: Rpn, keys: Tensor) -> tuple[RegionProposalNetwork, KeyedSampler]:
    counts = {"training": TRAIN, "testing": TEST}
    theirs = RegionProposalNetwork(
        _Anchors(rpn.anchors), rpn.head, POSITIVE_IOU, NEGATIVE_IOU, rpn.samples, POSITIVE_SHARE, counts, counts, 0.7
    )
    sampler = theirs.fg_bg_sampler = KeyedSampler(rpn.samples, POSITIVE_SHARE, list(keys))
    return theirs, sampler


def _their_losses(
    rpn: Rpn, features: dict[str, Tensor], truth: Sequence[dict[str, Tensor]], keys: Tensor
) -> tuple[list[Tensor], dict[str, Tensor], KeyedSampler]:
    theirs, sampler = _torchvisions(rpn, keys)
    images = ImageList(torch.zeros(len(truth), 3, 64, 64), SIZES[: len(truth)])
    proposals, losses = theirs.train()(images, features, list(truth))
    return proposals, losses, sampler


def _batch(truth: Sequence[dict[str, Tensor]]) -> Batch:
    return make_batch(truth, sizes=SIZES)


@levels
def test_proposals_are_torchvisions(levels: Sequence[int]) -> None:
    features, rpn = _features(levels), _rpn(levels, 16)
    theirs, _ = _torchvisions(rpn, torch.zeros(0))
    images = ImageList(torch.zeros(3, 3, 64, 64), SIZES)

    found = rpn.propose(features, _batch(TARGETS))

    expected, _ = theirs.eval()(images, features)
    numbers = [len(each) for each in expected]
    assert found.boxes.shape == (3, TEST, 4)
    assert found.valid.sum(dim=1).tolist() == numbers
    assert min(numbers) > 5
    for boxes, number, its in zip(found.boxes, numbers, expected, strict=True):
        torch.testing.assert_close(boxes[:number], its, atol=1e-4, rtol=0)


@levels
@truths
def test_losses_and_proposals_of_a_batch_are_torchvisions(
    levels: Sequence[int], truth: Sequence[dict[str, Tensor]]
) -> None:
    """It divides by the samples of all images: where these have equally many, that is a mean over images."""
    features = _features(levels)
    keys = _keys(features, rpn_anchors(levels, 4.0))
    rpn = _rpn(levels, 12, keys)

    losses, proposals = rpn.losses(features, _batch(truth))

    expected_proposals, expected, sampler = _their_losses(rpn, features, truth, keys)
    assert sampler.used == [12, 12, 12]
    assert [number > 0 for number in sampler.positive] == [len(each["boxes"]) > 0 for each in truth]
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg"}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-6, rtol=1e-5)
    assert proposals.valid.sum(dim=1).tolist() == [len(each) for each in expected_proposals]
    for boxes, its in zip(proposals.boxes, expected_proposals, strict=True):
        torch.testing.assert_close(boxes[: len(its)], its, atol=1e-4, rtol=0)


@levels
@truths
def test_gradients_are_torchvisions(levels: Sequence[int], truth: Sequence[dict[str, Tensor]]) -> None:
    features = _features(levels)
    keys = _keys(features, rpn_anchors(levels, 4.0))
    rpn = _rpn(levels, 12, keys)

    mine = torch.autograd.grad(_sum(rpn.losses(features, _batch(truth))[0]), list(rpn.parameters()))
    its = torch.autograd.grad(_sum(_their_losses(rpn, features, truth, keys)[1]), list(rpn.parameters()))

    for one, other in zip(mine, its, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@levels
@truths
def test_losses_of_unequal_images_are_the_mean_of_torchvisions_one_by_one(
    levels: Sequence[int], truth: Sequence[dict[str, Tensor]]
) -> None:
    """More samples than there are anchors: every anchor that is not ignored is looked at."""
    features = _features(levels)
    keys = _keys(features, rpn_anchors(levels, 4.0))
    rpn = _rpn(levels, 5000, keys)

    losses, _ = rpn.losses(features, _batch(truth))

    alone, used = [], []
    for image in range(3):
        own = keys[image : image + 1]
        _, expected, sampler = _their_losses(rpn, _alone(features, image), truth[image : image + 1], own)
        rpn.keys = lambda *_, own=own: own
        mine, _ = rpn.losses(_alone(features, image), single(_batch(truth), image))
        for name, loss in mine.items():
            torch.testing.assert_close(loss, expected[name], atol=1e-6, rtol=1e-5)
        alone.append(expected)
        used += sampler.used
    assert (len(set(used)) == 1) == (truth is NO_BOXES)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.stack([each[name] for each in alone]).mean(), atol=1e-6, rtol=1e-5)
