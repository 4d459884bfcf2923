"""Matching of candidates (anchors, RoIs) with ground truth, and sampling of candidates for the losses.

Both work on a whole batch with fixed shapes: ground truth is padded, and masks replace counts.
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
"""A background candidate is ignored if more than this share of it lies on a crowd region; it may contain objects.
Torchvision has no crowds: it trains on their objects as background."""

RandomKeys = Callable[[Tensor, "Purpose", int], Tensor]
"""Function of int64 seeds Tensor[B], purpose and N that returns random numbers in [0, 1), Tensor[B, N]."""


class Purpose(IntEnum):
    """Use of random keys; keys of different purposes are independent."""

    RPN_SAMPLES = 0
    SHAPE_SAMPLES = 1
    GUIDED_SAMPLES = 2
    ROI_SAMPLES = 3


def random_keys(seeds: Tensor, purpose: Purpose, count: int) -> Tensor:
    """Return float32 numbers in [0, 1), Tensor[B, count], on the seeds' device: a hash of seed, purpose and position.

    So the numbers of an image are the same in any part of its batch, and on every device. SplitMix64 (Steele et al.
    2014, figure 16) turns seed and purpose into two 32-bit words. Wellons' hash of two rounds
    (https://nullprogram.com/blog/2018/07/31/) turns position and words into a number; the first word is added before
    the rounds, the second between them. Integer multiplications wrap around. A right shift fills with the sign, which
    the masks remove.

    Args:
        seeds: int64 Tensor[B].
        purpose: Use of the numbers.
        count: Numbers per image.
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
    """Return output ``number`` (from 0) of SplitMix64 generators with these seeds, int64 Tensor[B]."""
    state = seeds + _signed(0x9E3779B97F4A7C15 * (number + 1), 64)
    state = (state ^ ((state >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9, 64)
    state = (state ^ ((state >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB, 64)
    return state ^ ((state >> 31) & (2**33 - 1))


def _signed(value: int, bits: int) -> int:
    """Return the signed integer with the lowest ``bits`` bits of ``value``."""
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """Assignment of ``A`` candidates per image to ground truth.

    Attributes:
        index: int64 Tensor[B, A], index of the box with the highest IoU in the same image.
        positive: bool Tensor[B, A], True if the candidate is assigned to that box.
        negative: bool Tensor[B, A], True if the candidate is background; a candidate may be neither.
    """

    index: Tensor
    positive: Tensor
    negative: Tensor

    def boxes(self, batch: Batch) -> Tensor:
        """Return the box of each candidate, Tensor[B, A, 4]; undefined where it is not positive."""
        return gather_rows(batch.boxes, self.index)

    def labels(self, batch: Batch) -> Tensor:
        """Return the label of each candidate, int64 Tensor[B, A]: 1..num_classes where positive, else 0."""
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
    """Match ``candidates`` with the boxes of ``batch``, as torchvision's ``Matcher`` does for one image.

    Args:
        batch: Ground truth. Padding is ignored; crowd regions only remove negatives.
        candidates: Tensor[A, 4] or Tensor[B, A, 4].
        high: A candidate with an IoU of at least this is positive.
        low: A candidate with an IoU below this is negative.
        best_for_each_box: Also make the candidates with the highest IoU of each box positive, ties included.
        iou: Tensor[B, M, A] if it is already computed.
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
    """``N`` slots per image for sampled candidates: positives first, then negatives, then empty slots.

    Attributes:
        index: int64 Tensor[B, N], index of the candidate; 0 in an empty slot.
        positive: bool Tensor[B, N], True for positives.
        used: bool Tensor[B, N], False for empty slots.
    """

    index: Tensor
    positive: Tensor
    used: Tensor


def sample(positive: Tensor, negative: Tensor, count: int, positive_share: float, keys: Tensor) -> Samples:
    """Choose up to ``count`` random candidates per image, at most ``positive_share`` of them positive.

    As in torchvision's sampler, negatives fill the slots that positives leave empty, never the other way round.

    Args:
        positive: bool Tensor[B, A].
        negative: bool Tensor[B, A]; no candidate is both.
        count: Slots per image.
        positive_share: Maximum share of positives, 0..1.
        keys: Random numbers Tensor[B, A] in [0, 1); of each kind, the candidates with the largest keys are chosen.
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
    """Sum the ``values`` of each image, Tensor[B, ...], divide by its ``counts``, Tensor[B], and average the images.

    Torchvision divides by the samples of the whole batch, which is the same if all images have as many. The mean over
    images keeps the loss of a batch that is cut in two.
    """
    return (values.flatten(1).sum(dim=1) / counts.clamp(min=1)).mean()


def _on_crowd(batch: Batch, candidates: Tensor) -> Tensor:
    """Bool Tensor[B, A]: True for candidates of which more than ``CROWD_SHARE`` lies on one crowd region."""
    crowds = torch.where(batch.crowd[..., None], batch.boxes, 0.0)
    shared = intersections(crowds, candidates).amax(dim=1)
    return shared > CROWD_SHARE * box_areas(candidates)
