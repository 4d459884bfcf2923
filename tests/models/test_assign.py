from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from smnas_optuna.batch import Batch
from smnas_optuna.models.assign import (
    CROWD_SHARE,
    Matches,
    Purpose,
    _splitmix64,
    match,
    mean_over_images,
    random_keys,
    sample,
)

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
    positive, negative = _random_kinds(count, 150, positives, negatives)
    keys = random_keys(torch.arange(4), Purpose.RPN_SAMPLES, 150)

    chosen = sample(positive, negative, count, share, keys)

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
    positive = torch.arange(20).expand(2000, 20) < 8
    keys = random_keys(torch.arange(2000), Purpose.ROI_SAMPLES, 20)

    chosen = sample(positive, ~positive, 10, 0.4, keys)

    counts = torch.bincount(chosen.index.flatten(), minlength=20) / 2000
    # 4 of 8 positives, 6 of 12 negatives; 5 standard deviations
    torch.testing.assert_close(counts, torch.full((20,), 0.5), atol=5 * 0.5 / 2000**0.5, rtol=0)


def _slow_key(seed: int, purpose: int, index: int) -> float:
    """One random key, with Python's integers."""
    state = (seed + 0x9E3779B97F4A7C15 * (purpose + 1)) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    state ^= state >> 31
    bits = (index + state % 2**32) % 2**32
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D + (state >> 32)) % 2**32
    bits = (bits ^ (bits >> 15)) * 0x846CA68B % 2**32
    return ((bits ^ (bits >> 16)) >> 8) / 2**24


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("count", [1, 7, 64, 1003])
def test_keys_are_the_hash_of_seed_purpose_and_position(purpose: Purpose, count: int) -> None:
    """Whatever integers do at their limits; counts that fill vectors and that do not."""
    seeds = [0, 1, 2**63 - 1, -(2**63), -1, 0x1234_5678_9ABC_DEF0]

    keys = random_keys(torch.tensor(seeds), purpose, count)

    assert keys.dtype == torch.float32
    assert keys.tolist() == [[_slow_key(seed, purpose, index) for index in range(count)] for seed in seeds]
    assert ((keys >= 0) & (keys < 1)).all()


def test_seeds_are_mixed_by_splitmix64() -> None:
    outputs = [int(_splitmix64(torch.tensor([1234567]), number)) % 2**64 for number in range(5)]

    # https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


NEIGHBOURS = torch.cat((torch.arange(-4, 4), 2 ** torch.arange(2, 62, 8)))
"""Seeds that differ in few bits."""


def _rows(count: int) -> Tensor:
    """Keys of all purposes and of seeds that are alike, Tensor[64, count]."""
    return torch.cat([random_keys(NEIGHBOURS, purpose, count) for purpose in Purpose])


def test_keys_are_uniform() -> None:
    rows, bins = _rows(20_000), 200

    for values in (rows, rows * 2**10 % 1):  # their highest bits, and lower ones
        counts = torch.stack([torch.histc(row, bins, 0, 1) for row in values])
        chi_square = ((counts - 100).square() / 100).sum(dim=1)
        # of 199 degrees of freedom: mean 199, variance 398; no row of 64 is 5 standard deviations away
        assert (chi_square - 199).abs().max() < 5 * 398**0.5
        assert (chi_square.mean() - 199).abs() < 5 * (398 / 64) ** 0.5


@pytest.mark.parametrize("shift", [0, 1, 2, 16])
def test_keys_of_alike_seeds_of_purposes_and_of_neighbours_are_independent(shift: int) -> None:
    rows = _rows(20_000 + shift)
    one, other = rows[:, shift:], rows[:, : rows.shape[1] - shift]

    correlations = torch.corrcoef(torch.cat((one, other)))[: len(rows), len(rows) :]

    if shift == 0:
        correlations.fill_diagonal_(0.0)  # of a row with itself
    assert correlations.abs().max() < 5.5 / 20_000**0.5


def test_keys_tie_no_more_often_than_numbers_of_24_bits() -> None:
    rows = _rows(12_000)

    ties = sum(row.numel() - row.unique().numel() for row in rows)

    expected = len(rows) * 12_000**2 / 2 / 2**24
    assert abs(ties - expected) < 5 * expected**0.5


def test_keys_of_an_image_do_not_depend_on_the_rest_of_the_batch() -> None:
    seeds = torch.randint(2**63 - 1, (7,), generator=torch.Generator().manual_seed(0))
    whole = random_keys(seeds, Purpose.SHAPE_SAMPLES, 500)

    for part in (slice(0, 3), slice(2, 3), slice(3, 7)):
        assert torch.equal(random_keys(seeds[part], Purpose.SHAPE_SAMPLES, 500), whole[part])
    assert torch.equal(random_keys(seeds, Purpose.SHAPE_SAMPLES, 123), whole[:, :123])
    assert len(set(map(tuple, whole.tolist()))) == 7


def test_the_mean_of_images_weighs_every_image_alike() -> None:
    values = torch.tensor([[1.0, 3.0, 0.0], [8.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    # 4 / 2, 8 / 1, and 0 where there is nothing
    assert mean_over_images(values, torch.tensor([2, 1, 0])).item() == pytest.approx(10 / 3)
    assert mean_over_images(values[..., None].expand(-1, -1, 4), torch.tensor([2, 1, 0])).item() == pytest.approx(
        40 / 3
    )
