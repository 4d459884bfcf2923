from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper

from smnas_optuna.models.roi_align import pyramid_roi_align, roi_levels, weighted_sums

from .tiny_detectors import random_boxes

CANVAS = (512, 448)
"""Height and width."""
CHANNELS = 3
LEVELS = pytest.mark.parametrize("levels", [range(2, 6), range(3, 6), range(4, 6), [4]], ids=["p2", "p3", "p4", "c4"])


def _features(levels: Sequence[int], images: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(6)
    return {
        f"p{level}": torch.randn(images, CHANNELS, CANVAS[0] // 2**level, CANVAS[1] // 2**level, generator=generator)
        for level in levels
    }


def _rois() -> Tensor:
    """Of two images: RoIs of all sizes, as many of each, that lie inside, over the border, on it and outside."""
    generator = torch.Generator().manual_seed(7)
    edges = [6.0, 55.0, 60.0, 111.0, 113.0, 150.0, 223.0, 225.0, 440.0]
    squares = torch.tensor([[3.0, 5.0, 3 + edge, 5 + edge] for edge in edges])
    height, width = CANVAS
    special = torch.tensor(
        [
            [0, 0, width, height],
            [-30, -40, 100, 50],
            [width - 20, height - 9, width + 90, height + 60],
            [-300, -300, -200, -200],
            [width + 100, 10, width + 300, 90],
            [0, 0, 0, 0],
            [width, height, width, height],
            [40, 50, 40.3, 50.2],
            [40, 50, 40, 300],
            [17, 33, 18, 34],
            [width - 1, 0, width, height],
            [0, height - 0.5, width, height],
        ],
        dtype=torch.float32,
    )
    return torch.stack([torch.cat((squares + shift, special, random_boxes(generator, 30, 448.0))) for shift in (0, 20)])


def _theirs(features: dict[str, Tensor], levels: Sequence[int], rois: Tensor, bins: int) -> Tensor:
    pooler = MultiScaleRoIAlign([f"p{level}" for level in levels], bins, sampling_ratio=2)
    return pooler(features, list(rois), [CANVAS] * len(rois))  # type: ignore[no-any-return]


@LEVELS
@pytest.mark.parametrize("bins", [7, 14])
def test_values_and_gradients_are_torchvisions(levels: Sequence[int], bins: int) -> None:
    mine = {name: each.requires_grad_() for name, each in _features(levels).items()}
    its = {name: each.requires_grad_() for name, each in _features(levels).items()}
    rois = _rois()
    levels_hit = set(roi_levels(rois, levels).flatten().tolist())
    assert levels_hit == set(levels)

    pooled, expected = pyramid_roi_align(mine, levels, rois, bins), _theirs(its, levels, rois, bins)
    upstream = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(8))
    pooled.backward(upstream)  # type: ignore[no-untyped-call]
    expected.backward(upstream)  # type: ignore[no-untyped-call]

    assert pooled.shape == (rois.shape[0] * rois.shape[1], CHANNELS, bins, bins)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0)
    for name in mine:
        mine_grad, its_grad = mine[name].grad, its[name].grad
        assert mine_grad is not None
        assert its_grad is not None
        assert its_grad.any()
        torch.testing.assert_close(mine_grad, its_grad, atol=2e-4, rtol=1e-4)


@LEVELS
def test_a_rois_level_is_torchvisions(levels: Sequence[int]) -> None:
    near = [edge * (1 + off) for edge in (56, 112, 224, 448) for off in (-1e-4, -2e-7, 0, 2e-7, 1e-4)]
    edges = torch.tensor([0.0, 1e-6, 1.0, 27.0, 5000.0, *near])
    squares = torch.stack((edges * 0, edges * 0, edges, edges), dim=1)
    rois = torch.cat((squares, random_boxes(torch.Generator().manual_seed(0), 500, 1000.0)))

    found = roi_levels(rois, levels)

    assert torch.equal(found - levels[0], LevelMapper(levels[0], levels[-1])([rois]))
    assert set(found.tolist()) == set(levels)


@pytest.mark.parametrize("lowest", [2, 3, 4])
def test_a_roi_is_pooled_with_its_levels_stride_also_on_maps_that_were_rounded_up(lowest: int) -> None:
    """Of a canvas of 96 px, stride 32 has 3 places; torchvision guesses scales from shapes, which may mislead it."""
    levels = range(lowest, 6)
    generator = torch.Generator().manual_seed(1)
    features = {f"p{n}": torch.randn(1, CHANNELS, 96 // 2**n, 160 // 2**n, generator=generator) for n in levels}
    rois = random_boxes(generator, 40, 160.0)[None]

    pooled = pyramid_roi_align(features, levels, rois, 7)

    for roi, level, found in zip(rois[0], roi_levels(rois[0], levels).tolist(), pooled, strict=True):
        expected = roi_align(features[f"p{level}"], [roi[None]], 7, 2.0**-level, sampling_ratio=2)[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_constant_map_gives_its_value_and_a_ramp_the_centres_of_the_bins() -> None:
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    features = {"p2": torch.cat((torch.full_like(ramp, 5.0), ramp, ramp.mT), dim=1)}
    roi = torch.tensor([[[40.0, 20.0, 40.0 + 7 * 8, 20.0 + 7 * 12]]])

    (pooled,) = pyramid_roi_align(features, [2], roi, 7)

    bins = torch.arange(7.0) + 0.5
    assert torch.equal(pooled[0], torch.full((7, 7), 5.0))
    torch.testing.assert_close(pooled[1], (10 + 2 * bins).expand(7, 7))
    torch.testing.assert_close(pooled[2], (5 + 3 * bins)[:, None].expand(7, 7))


def test_each_image_is_pooled_from_its_own_maps() -> None:
    levels = range(2, 6)
    features, rois = _features(levels), _rois()

    together = pyramid_roi_align(features, levels, rois, 7)

    for image in range(2):
        own = {name: each[image : image + 1] for name, each in features.items()}
        alone = pyramid_roi_align(own, levels, rois[image : image + 1], 7)
        torch.testing.assert_close(together.view(2, -1, CHANNELS, 7, 7)[image], alone)


def test_levels_beside_those_asked_for_are_not_looked_at() -> None:
    features, rois = _features(range(2, 8)), _rois()

    pooled = pyramid_roi_align(features, range(3, 6), rois, 7)

    others = {name: torch.full_like(each, float("nan")) if name in ("p2", "p6", "p7") else each
              for name, each in features.items()}  # fmt: skip
    assert torch.equal(pyramid_roi_align(others, range(3, 6), rois, 7), pooled)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
def test_rois_that_are_no_numbers_look_at_no_other_places(value: float) -> None:
    """A training that diverges is told so by its losses; a look outside the table would end a CUDA process."""
    features = _features(range(2, 6))
    rois = _rois()
    with torch.no_grad():
        expected = pyramid_roi_align(features, range(2, 6), rois, 7).view(2, -1, CHANNELS, 7, 7)
    for place in range(4):
        rois[0, place, place] = value

    found = pyramid_roi_align(features, range(2, 6), rois, 7).view(2, -1, CHANNELS, 7, 7)

    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0, 4:], expected[0, 4:])


@pytest.mark.parametrize("sums", [0, 1, 300])
def test_weighted_sums_go_back_as_embedding_bag_does(sums: int) -> None:
    generator = torch.Generator().manual_seed(9)
    table, upstream = torch.randn(40, 5, generator=generator), torch.randn(sums, 5, generator=generator)
    index = torch.randint(3, 30, (sums, 16), generator=generator)  # some places are in no sum, others many times in one
    weights = torch.rand(sums, 16, generator=generator)
    mine, its = table.clone().requires_grad_(), table.clone().requires_grad_()

    result = weighted_sums(mine, index, weights)
    expected = F.embedding_bag(index, its, per_sample_weights=weights, mode="sum")

    torch.testing.assert_close(result, expected, atol=0, rtol=0)
    (mine_grad,) = torch.autograd.grad(result, mine, upstream)
    (its_grad,) = torch.autograd.grad(expected, its, upstream)
    torch.testing.assert_close(mine_grad, its_grad)
