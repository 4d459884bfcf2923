from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from smnas_optuna.arch.spec import MAX_LEVELS, MIN_LEVELS
from smnas_optuna.models.layers import group_norm
from smnas_optuna.models.neck import FPN

CHANNELS = (4, 8, 16, 32)


def _features(height: int = 96, width: int = 160) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        f"c{level}": torch.randn(2, count, height // 2**level, width // 2**level)
        for level, count in zip(range(2, 6), CHANNELS, strict=True)
    }


@pytest.mark.parametrize("highest", MAX_LEVELS)
@pytest.mark.parametrize("lowest", MIN_LEVELS)
def test_levels_are_named_after_their_strides(lowest: int, highest: int) -> None:
    pyramid = FPN(CHANNELS, lowest, highest, 6, group_norm(32))(_features())

    assert {name: tuple(level.shape) for name, level in pyramid.items()} == {
        f"p{level}": (2, 6, -(-96 // 2**level), -(-160 // 2**level)) for level in range(lowest, highest + 1)
    }
    assert list(pyramid) == [f"p{level}" for level in range(lowest, highest + 1)]


def test_levels_above_the_backbone_are_subsampled_from_the_one_below() -> None:
    pyramid = FPN(CHANNELS, 3, 7, 6, group_norm(32))(_features(224, 160))

    assert torch.equal(pyramid["p6"], pyramid["p5"][:, :, ::2, ::2])
    assert torch.equal(pyramid["p7"], pyramid["p6"][:, :, ::2, ::2])


def test_further_levels_have_no_weights_and_change_no_other_level() -> None:
    features = _features()
    torch.manual_seed(1)
    short = FPN(CHANNELS, 3, 5, 6, group_norm(32))
    long = FPN(CHANNELS, 3, 7, 6, group_norm(32))
    long.load_state_dict(short.state_dict())

    few, many = short(features), long(features)

    assert all(torch.equal(few[name], many[name]) for name in few)


def test_the_pyramid_is_lateral_plus_the_level_above() -> None:
    features = _features()
    neck = FPN(CHANNELS, 4, 5, 6, group_norm(32))
    (inner4, inner5), (out4, out5) = neck.inner_blocks, neck.layer_blocks

    top = inner5(features["c5"])
    below = inner4(features["c4"]) + F.interpolate(top, scale_factor=2.0, mode="nearest")

    pyramid = neck(features)
    torch.testing.assert_close(pyramid["p5"], out5(top))
    torch.testing.assert_close(pyramid["p4"], out4(below))
