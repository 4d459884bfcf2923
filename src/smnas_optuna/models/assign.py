"""Which candidates (anchors, RoIs) are objects, which are background, and which of them are looked at in a step.

For a whole batch at once and with fixed shapes: ground truth is padded, and masks take the place of counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from smnas_optuna.batch import Batch
from smnas_optuna.models.boxes import box_areas, gather_rows, intersections, pairwise_iou

CROWD_SHARE = 0.5
"""Background of which more than this share lies on a crowd region may hold objects: it is not looked at."""

RandomKeys = Callable[[Tensor, "Purpose", int], Tensor]
"""Makes random numbers in [0, 1), Tensor[B, N], of int64 seeds Tensor[B], of what they are for, and of N."""


class Purpose(IntEnum):
    """What random keys choose; those of one purpose say nothing about those of another."""

    RPN_SAMPLES = 0
    SHAPE_SAMPLES = 1
    GUIDED_SAMPLES = 2
    ROI_SAMPLES = 3


def random_keys(seeds: Tensor, purpose: Purpose, count: int) -> Tensor:
    """Float32 numbers in [0, 1), Tensor[B, count], on the seeds' device: a hash of seed, purpose and position alone.

    The numbers of an image are thus the same in any part of its batch, and on every device. Seed and purpose make two
    32-bit words, by SplitMix64 (Steele et al. 2014, figure 16); position and words make a number by Wellons' hash of
    two rounds (https://nullprogram.com/blog/2018/07/31/), the first word added before, the second between the rounds.
    Multiplications of integers wrap around, and a shift to the right fills up with the sign, which the masks take away.

    Args:
        seeds: int64 Tensor[B].
        purpose: What the numbers are for.
        count: Numbers an image.
    """
    words = _splitmix64(seeds, purpose).view(torch.int32).view(-1, 2, 1)
    bits = torch.arange(count, dtype=torch.int32, device=seeds.device) + words[:, 0]
    bits ^= (bits >> 16).bitwise_and_(0xFFFF)
    bits *= 0x7FEB352D
    bits += words[:, 1]
    bits ^= (bits >> 15).bitwise_and_(0x1FFFF)
    bits *= _signed(0x846CA68B, 32)
    bits ^= (bits >> 16).bitwise_and_(0xFFFF)
    return (bits >> 8).bitwise_and_(0xFFFFFF).float().mul_(2**-24)


def _splitmix64(seeds: Tensor, number: int) -> Tensor:
    """The ``number``-th output (from 0) of SplitMix64 generators of these seeds, int64 Tensor[B]."""
    state = seeds + _signed(0x9E3779B97F4A7C15 * (number + 1), 64)
    state = (state ^ ((state >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9, 64)
    state = (state ^ ((state >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB, 64)
    return state ^ ((state >> 31) & (2**33 - 1))


def _signed(value: int, bits: int) -> int:
    """The signed integer that has the lowest ``bits`` bits of ``value``."""
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """What each of ``A`` candidates of each image is.

    Attributes:
        index: int64 Tensor[B, A], the box of the batch that overlaps it most.
        positive: bool Tensor[B, A], whether it stands for that box.
        negative: bool Tensor[B, A], whether it is background; a candidate may be neither.
    """

    index: Tensor
    positive: Tensor
    negative: Tensor

    def boxes(self, batch: Batch) -> Tensor:
        """The box of each candidate, Tensor[B, A, 4]; of no meaning where it is not positive."""
        return gather_rows(batch.boxes, self.index)

    def labels(self, batch: Batch) -> Tensor:
        """The label of each candidate, int64 Tensor[B, A]: 1..num_classes where positive, else 0."""
        return gather_rows(batch.labels, self.index) * self.positive


def match(
    batch: Batch,
    candidates: Tensor,
    *,
    high: float,
    low: float,
    best_for_each_box: bool,
    iou: Tensor | None = None,
) -> Matches:
    """Compare ``candidates`` with the boxes of ``batch``, as torchvision's ``Matcher`` does for one image.

    Args:
        batch: Its padding is no box; its crowd regions only take away negatives.
        candidates: Tensor[A, 4] or Tensor[B, A, 4].
        high: A candidate with an IoU of at least this is positive.
        low: One below this is negative.
        best_for_each_box: Also make those positive that overlap a box more than all others do, ties included.
        iou: Tensor[B, M, A] if it is known.
    """
    iou = pairwise_iou(batch.boxes, candidates) if iou is None else iou
    if iou.shape[1] == 0:  # no image of the batch has a box
        nothing = torch.zeros((len(batch), candidates.shape[-2]), dtype=torch.bool, device=candidates.device)
        return Matches(index=nothing.long(), positive=nothing, negative=~nothing)
    iou = iou.masked_fill(~batch.objects[..., None], -1.0)
    overlap, index = iou.max(dim=1)
    positive = overlap >= high
    if best_for_each_box:
        best = iou.amax(dim=2, keepdim=True)
        positive = positive | ((iou == best) & (best > 0)).any(dim=1)
    negative = ~positive & (overlap < low) & ~_on_crowd(batch, candidates)
    return Matches(index=index, positive=positive, negative=negative)


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """``N`` places for the candidates of each image that are looked at: positives first, then negatives, then none.

    Attributes:
        index: int64 Tensor[B, N], position among the candidates; 0 where there is none.
        positive: bool Tensor[B, N].
        used: bool Tensor[B, N], whether there is a candidate in this place.
    """

    index: Tensor
    positive: Tensor
    used: Tensor


def sample(positive: Tensor, negative: Tensor, count: int, positive_share: float, keys: Tensor) -> Samples:
    """Choose up to ``count`` candidates an image at random, at most ``positive_share`` of them positive.

    As torchvision's sampler: negatives fill what positives leave, never the other way round.

    Args:
        positive: bool Tensor[B, A].
        negative: bool Tensor[B, A]; no candidate is both.
        count: Places an image.
        positive_share: 0..1.
        keys: Tensor[B, A] in [0, 1); of each kind, those with the largest keys are chosen.
    """
    most = min(int(count * positive_share), positive.shape[1])
    count = min(count, positive.shape[1])
    top_positive, first = torch.where(positive, keys, -1.0).topk(most, dim=1)
    top_negative, second = torch.where(negative, keys, -1.0).topk(count, dim=1)
    used = torch.cat((top_positive, top_negative), dim=1) >= 0
    order = torch.argsort(~used, dim=1, stable=True)[:, :count]
    used = used.gather(1, order)
    return Samples(
        index=torch.cat((first, second), dim=1).gather(1, order) * used,
        positive=used & (order < most),
        used=used,
    )


def mean_over_images(values: Tensor, counts: Tensor) -> Tensor:
    """Sum of each image's ``values``, Tensor[B, ...], over its ``counts``, Tensor[B]; then the mean over images."""
    return (values.flatten(1).sum(dim=1) / counts.clamp(min=1)).mean()


def _on_crowd(batch: Batch, candidates: Tensor) -> Tensor:
    """Bool Tensor[B, A]: whether a candidate lies mostly on one of its image's crowd regions."""
    crowds = torch.where(batch.crowd[..., None], batch.boxes, 0.0)
    shared = intersections(crowds, candidates).amax(dim=1)
    return shared > CROWD_SHARE * box_areas(candidates)
