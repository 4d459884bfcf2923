from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from smnas_optuna.batch import Batch
from smnas_optuna.models.assign import CROWD_SHARE, Matches, match, mean_over_images, random_keys, sample

from .tiny_detectors import NO_BOXES, make_batch, random_boxes, with_padding

Thresholds = tuple[float, float, bool]
RPN, ROI, RETINA = (0.7, 0.3, True), (0.5, 0.5, False), (0.5, 0.4, True)
thresholds = pytest.mark.parametrize("thresholds", [RPN, ROI, RETINA], ids=["rpn", "roi", "retina"])


def _truth(seed: int, counts: tuple[int, ...] = (0, 1, 7)) -> Batch:
    """Images with that many boxes, of labels 1, 2, 3, ..."""
    generator = torch.Generator().manual_seed(seed)
    return make_batch(
        [
            {"boxes": random_boxes(generator, count, smallest=6), "labels": torch.arange(count) % 3 + 1}
            for count in counts
        ]
    )


def _candidates(seed: int, count: int = 300) -> Tensor:
    return random_boxes(torch.Generator().manual_seed(1000 + seed), count)


def _match(batch: Batch, candidates: Tensor, thresholds: Thresholds) -> Matches:
    high, low, best_for_each_box = thresholds
    return match(batch, candidates, high=high, low=low, best_for_each_box=best_for_each_box)


@thresholds
@pytest.mark.parametrize("shared", [True, False], ids=["shared candidates", "each image's own"])
def test_matches_are_torchvisions(thresholds: Thresholds, shared: bool) -> None:
    positives = negatives = ignored = below = 0
    high, low, best_for_each_box = thresholds
    for seed in range(25):
        batch = _truth(seed)
        given = _candidates(seed) if shared else torch.stack([_candidates(seed + 50 * i) for i in range(3)])

        found = _match(batch, given, thresholds)

        assert found.negative[0].all()
        assert not found.positive[0].any()
        for image in (1, 2):
            boxes = batch.boxes[image, : batch.num_boxes[image]]
            iou = box_iou(boxes, given if shared else given[image])
            assert (iou.amax(dim=1) > 0).all()  # else torchvision makes a positive of everything that overlaps nothing
            expected = Matcher(high, low, best_for_each_box)(iou)
            positive = found.positive[image]
            assert torch.equal(positive, expected >= 0)
            assert torch.equal(found.negative[image], expected == Matcher.BELOW_LOW_THRESHOLD)
            assert torch.equal(found.index[image][positive], expected[positive])
            positives += int(positive.sum())
            negatives += int(found.negative[image].sum())
            ignored += int((expected == Matcher.BETWEEN_THRESHOLDS).sum())
            below += int((positive & (iou.amax(dim=0) < high)).sum())
    assert positives > 50
    assert negatives > 50
    assert (ignored > 0) == (low < high)
    assert (below > 0) == best_for_each_box


@thresholds
def test_an_overlap_that_is_a_threshold_counts_as_torchvision_counts_it(thresholds: Thresholds) -> None:
    """Of a box of 100 px and candidates of 1 to 100 px inside: every hundredth."""
    high, low, best_for_each_box = thresholds
    box = torch.tensor([[0.0, 0.0, 100.0, 1.0]])
    candidates = torch.stack([torch.tensor([0.0, 0.0, part, 1.0]) for part in range(1, 101)])

    found = _match(make_batch([{"boxes": box, "labels": torch.tensor([1])}]), candidates, thresholds)

    expected = Matcher(high, low, best_for_each_box)(box_iou(box, candidates))
    assert torch.equal(found.positive[0], expected >= 0)
    assert torch.equal(found.negative[0], expected == Matcher.BELOW_LOW_THRESHOLD)
    assert found.positive.sum() == 101 - round(100 * high)


def test_a_box_is_matched_by_all_that_tie_for_the_best() -> None:
    batch = make_batch([{"boxes": torch.tensor([[10.0, 10.0, 20.0, 20.0]]), "labels": torch.tensor([2])}])
    candidates = torch.tensor([[10.0, 10.0, 20.0, 40.0], [0.0, 10.0, 30.0, 20.0], [40.0, 40.0, 50.0, 50.0]])

    found = _match(batch, candidates, RPN)

    assert found.positive.tolist() == [[True, True, False]]
    assert found.negative.tolist() == [[False, False, True]]
    assert found.labels(batch).tolist() == [[2, 2, 0]]


def test_a_box_that_overlaps_nothing_makes_nothing_positive() -> None:
    """torchvision's Matcher makes everything positive then, as everything ties for its best overlap of 0."""
    boxes = torch.tensor([[50.0, 50.0, 60.0, 60.0]])
    candidates = torch.tensor([[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 20.0, 20.0]])

    found = _match(make_batch([{"boxes": boxes, "labels": torch.tensor([1])}]), candidates, RPN)

    assert Matcher(0.7, 0.3, True)(box_iou(boxes, candidates)).tolist() == [0, 0]
    assert not found.positive.any()
    assert found.negative.all()


@thresholds
def test_boxes_and_labels_are_those_of_the_matched_box(thresholds: Thresholds) -> None:
    batch, candidates = _truth(3), _candidates(3)
    found = _match(batch, candidates, thresholds)

    boxes, labels = found.boxes(batch), found.labels(batch)

    image, place = found.positive.nonzero(as_tuple=True)
    assert len(image) > 5
    assert torch.equal(boxes[image, place], batch.boxes[image, found.index[image, place]])
    assert torch.equal(labels[image, place], batch.labels[image, found.index[image, place]])
    assert not labels[~found.positive].any()


@thresholds
@pytest.mark.parametrize("value", [0.0, 9.0, float("nan")])
def test_padding_changes_nothing(thresholds: Thresholds, value: float) -> None:
    batch, candidates = _truth(4), _candidates(4)
    # A candidate that is the padding's own box.
    candidates[7] = torch.tensor([9.0, 9.0, 9.0, 9.0])
    plain = _match(batch, candidates, thresholds)

    padded = _match(with_padding(batch, value=value), candidates, thresholds)

    assert torch.equal(padded.positive, plain.positive)
    assert torch.equal(padded.negative, plain.negative)
    assert torch.equal(padded.index[plain.positive], plain.index[plain.positive])
    assert plain.positive.any()


def test_padding_that_a_candidate_covers_is_no_box() -> None:
    """A padding row with a box in it, as augmentation may leave one: only its label says that it is none."""
    batch = _truth(4, (1, 3))
    row = batch.boxes[0, 2] = torch.tensor([3.0, 3.0, 33.0, 30.0])

    found = _match(batch, row[None].repeat(4, 1), ROI)

    assert not found.positive[0].any()


@thresholds
def test_without_a_box_in_the_batch_all_is_background(thresholds: Thresholds) -> None:
    batch, candidates = make_batch(NO_BOXES), _candidates(0)
    assert batch.boxes.shape[1] == 0

    empty, padded = _match(batch, candidates, thresholds), _match(with_padding(batch), candidates, thresholds)

    for found in (empty, padded):
        assert found.index.dtype == torch.int64
        assert found.negative.all()
        assert not found.positive.any()
    assert not empty.labels(batch).any()
    assert empty.boxes(batch).shape == (3, len(candidates), 4)


@thresholds
def test_crowd_regions_only_take_negatives_away(thresholds: Thresholds) -> None:
    batch, candidates = _truth(5, (3, 7)), _candidates(5)
    # The last box of each image becomes a crowd region.
    crowd = torch.zeros_like(batch.crowd)
    crowd[0, 2] = crowd[1, 6] = True
    labels = torch.where(crowd, 0, batch.labels)
    without = _match(replace(batch, labels=labels), candidates, thresholds)

    found = _match(replace(batch, crowd=crowd), candidates, thresholds)

    assert without.positive.any()
    assert torch.equal(found.positive, without.positive)
    assert torch.equal(found.index[found.positive], without.index[found.positive])
    areas = (candidates[:, 2:] - candidates[:, :2]).prod(dim=1)
    for image in range(2):
        (region,) = batch.boxes[image, crowd[image]]
        shared = (torch.minimum(candidates[:, 2:], region[2:]) - torch.maximum(candidates[:, :2], region[:2])).clamp(0)
        on_it = shared.prod(dim=1) / areas > CROWD_SHARE
        assert torch.equal(found.negative[image], without.negative[image] & ~on_it)
        assert (without.negative[image] & on_it).any()


def test_a_given_overlap_is_used() -> None:
    batch, candidates = _truth(6, (2,)), _candidates(6, 5)
    iou = torch.tensor([[[0.0, 0.9, 0.2, 0.0, 0.4], [0.0, 0.1, 0.8, 0.0, 0.5]]])

    found = match(batch, candidates, high=0.7, low=0.3, best_for_each_box=False, iou=iou)

    assert found.index[found.positive].tolist() == [0, 1]
    assert found.positive.tolist() == [[False, True, True, False, False]]
    assert found.negative.tolist() == [[True, False, False, True, False]]


def _random_kinds(seed: int, count: int, positives: float, negatives: float) -> tuple[Tensor, Tensor]:
    dice = torch.rand(4, count, generator=torch.Generator().manual_seed(seed))
    return dice < positives, (dice >= positives) & (dice < positives + negatives)


KINDS = pytest.mark.parametrize(
    ("positives", "negatives"),
    [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.02, 0.9), (0.5, 0.4), (0.9, 0.02), (0.1, 0.1)],
    ids=["none", "negatives", "positives", "few positives", "both", "few negatives", "most ignored"],
)


@KINDS
@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("count", [1, 7, 32, 150, 500])
def test_as_many_are_sampled_as_by_torchvision(count: int, share: float, positives: float, negatives: float) -> None:
    torch.manual_seed(0)
    positive, negative = _random_kinds(count, 150, positives, negatives)

    chosen = sample(positive, negative, count, share, random_keys(positive))

    kinds = torch.where(positive, 1, torch.where(negative, 0, -1))
    theirs = BalancedPositiveNegativeSampler(count, share)(list(kinds))
    for image in range(4):
        used, index = chosen.used[image], chosen.index[image]
        num_positive = int(chosen.positive[image].sum())
        num_used = int(used.sum())
        assert num_positive == int(theirs[0][image].sum())
        assert num_used - num_positive == int(theirs[1][image].sum())
        # positives, then negatives, then none
        assert used.tolist() == [place < num_used for place in range(len(used))]
        assert chosen.positive[image].tolist() == [place < num_positive for place in range(len(used))]
        assert positive[image, index[:num_positive]].all()
        assert negative[image, index[num_positive:num_used]].all()
        assert not index[num_used:].any()
        assert len(set(index[:num_used].tolist())) == num_used
    assert chosen.index.shape == (4, min(count, 150))
    assert chosen.index.dtype == torch.int64


@KINDS
def test_of_each_kind_those_of_the_largest_keys_are_sampled(positives: float, negatives: float) -> None:
    positive, negative = _random_kinds(0, 60, positives, negatives)
    keys = torch.rand(4, 60, generator=torch.Generator().manual_seed(1))
    keys[:, ::7] = 0.0  # the smallest key is a key too

    chosen = sample(positive, negative, 20, 0.5, keys)

    for image in range(4):
        order = keys[image].argsort(descending=True, stable=True).tolist()
        first = [place for place in order if positive[image, place]][:10]
        second = [place for place in order if negative[image, place]][: 20 - len(first)]
        mine = chosen.index[image, chosen.used[image]].tolist()
        assert sorted(keys[image, mine].tolist()) == sorted(keys[image, first + second].tolist())
        assert [place for place in mine if keys[image, place] > 0] == [
            place for place in first + second if keys[image, place] > 0
        ]


def test_every_candidate_is_sampled_as_often_as_the_others() -> None:
    torch.manual_seed(0)
    positive = torch.arange(20).expand(2000, 20) < 8

    chosen = sample(positive, ~positive, 10, 0.4, random_keys(positive))

    counts = torch.bincount(chosen.index.flatten(), minlength=20) / 2000
    # 4 of 8 positives, 6 of 12 negatives; 5 standard deviations
    torch.testing.assert_close(counts, torch.full((20,), 0.5), atol=5 * 0.5 / 2000**0.5, rtol=0)


def test_keys_are_random_numbers_of_the_shape() -> None:
    torch.manual_seed(0)
    keys = random_keys(torch.zeros(3, 1000, dtype=torch.bool))

    assert keys.dtype == torch.float32
    assert ((keys >= 0) & (keys < 1)).all()
    assert len(set(keys.flatten().tolist())) > 2900


def test_the_mean_of_images_weighs_every_image_alike() -> None:
    values = torch.tensor([[1.0, 3.0, 0.0], [8.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    # 4 / 2, 8 / 1, and 0 where there is nothing
    assert mean_over_images(values, torch.tensor([2, 1, 0])).item() == pytest.approx(10 / 3)
    assert mean_over_images(values[..., None].expand(-1, -1, 4), torch.tensor([2, 1, 0])).item() == pytest.approx(
        40 / 3
    )
