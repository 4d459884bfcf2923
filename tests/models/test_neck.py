from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from smnas_optuna.arch.spec import BACKBONE_TOP, EXTRA_LEVELS, MAX_LEVELS, MIN_LEVELS
from smnas_optuna.models.layers import Norm, group_norm
from smnas_optuna.models.neck import FPN, SingleLevel

CHANNELS = (4, 8, 16, 32)


def _features(height: int = 96, width: int = 160) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        f"c{level}": torch.randn(2, count, height // 2**level, width // 2**level)
        for level, count in zip(range(2, 6), CHANNELS, strict=True)
    }


# of levels and what makes those above p5
PYRAMIDS = [
    (lowest, highest, extra)
    for lowest in MIN_LEVELS
    for highest in MAX_LEVELS
    for extra in ((None,) if highest == BACKBONE_TOP else EXTRA_LEVELS)
]
norms = pytest.mark.parametrize("norm", [group_norm(32), None], ids=["gn", "no norm"])


def _fpn(lowest: int, highest: int, extra: str | None, norm: Norm | None) -> FPN:
    torch.manual_seed(1)
    neck = FPN(CHANNELS, lowest, highest, 6, norm, extra)
    for name, parameter in neck.named_parameters():  # biases and norms begin as zeros and ones
        if parameter.ndim == 1:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    return neck


@norms
@pytest.mark.parametrize(("lowest", "highest", "extra"), PYRAMIDS)
def test_levels_are_named_after_their_strides(lowest: int, highest: int, extra: str | None, norm: Norm | None) -> None:
    pyramid = _fpn(lowest, highest, extra, norm)(_features())

    assert {name: tuple(level.shape) for name, level in pyramid.items()} == {
        f"p{level}": (2, 6, -(-96 // 2**level), -(-160 // 2**level)) for level in range(lowest, highest + 1)
    }
    assert list(pyramid) == [f"p{level}" for level in range(lowest, highest + 1)]


@norms
def test_pooled_levels_are_subsampled_from_the_one_below(norm: Norm | None) -> None:
    pyramid = _fpn(3, 7, "pool", norm)(_features(224, 160))

    assert torch.equal(pyramid["p6"], pyramid["p5"][:, :, ::2, ::2])
    assert torch.equal(pyramid["p7"], pyramid["p6"][:, :, ::2, ::2])


def test_pooled_levels_have_no_weights_and_change_no_other_level() -> None:
    features = _features()
    short, long = _fpn(3, 5, None, group_norm(32)), _fpn(3, 7, "pool", group_norm(32))
    long.load_state_dict(short.state_dict())

    few, many = short(features), long(features)

    assert all(torch.equal(few[name], many[name]) for name in few)


@pytest.mark.parametrize("extra", ["conv_c5", "conv_p5"])
def test_convolved_levels_are_retinanets(extra: str) -> None:
    """Without a norm they are torchvision's LastLevelP6P7, with the same weights."""
    features = _features()
    neck = _fpn(3, 7, extra, None)
    theirs = LastLevelP6P7(CHANNELS[-1] if extra == "conv_c5" else 6, 6)
    # torchvision takes p5 instead of c5 exactly where the channels are the same
    theirs.use_P5 = extra == "conv_p5"
    for name in ("p6", "p7"):
        own = neck.get_submodule(f"extra_blocks.{name}.0")
        theirs.get_submodule(name).load_state_dict(own.state_dict())

    pyramid = neck(features)

    expected, _ = theirs([pyramid["p5"]], [features["c5"]], ["p5"])
    torch.testing.assert_close(pyramid["p6"], expected[1])
    torch.testing.assert_close(pyramid["p7"], expected[2])
    assert not torch.equal(pyramid["p6"], pyramid["p5"][:, :, ::2, ::2])


@pytest.mark.parametrize("extra", ["conv_c5", "conv_p5"])
def test_convolved_levels_are_normalised_and_leave_the_others_alone(extra: str) -> None:
    features = _features(224, 160)
    neck, short = _fpn(3, 7, extra, group_norm(32)), _fpn(3, 5, None, group_norm(32))
    short.load_state_dict({name: value for name, value in neck.state_dict().items() if "extra_blocks" not in name})
    (conv6, norm6), (conv7, norm7) = (neck.get_submodule(f"extra_blocks.{name}") for name in ("p6", "p7"))
    assert isinstance(norm6, nn.GroupNorm)
    assert conv6.bias is None

    pyramid, few = neck(features), short(features)

    assert all(torch.equal(few[name], pyramid[name]) for name in few)
    p6 = norm6(conv6(features["c5"] if extra == "conv_c5" else pyramid["p5"]))
    torch.testing.assert_close(pyramid["p6"], p6)
    torch.testing.assert_close(pyramid["p7"], norm7(conv7(F.relu(p6))))


def test_without_a_pyramid_c4_is_the_only_level() -> None:
    features = _features()

    levels = SingleLevel()({name: features[name] for name in ("c2", "c3", "c4")})

    assert list(levels) == ["p4"]
    assert levels["p4"] is features["c4"]


def test_the_pyramid_is_lateral_plus_the_level_above() -> None:
    features = _features()
    neck = FPN(CHANNELS, 4, 5, 6, group_norm(32))
    (inner4, inner5), (out4, out5) = neck.inner_blocks, neck.layer_blocks

    top = inner5(features["c5"])
    below = inner4(features["c4"]) + F.interpolate(top, scale_factor=2.0, mode="nearest")

    pyramid = neck(features)
    torch.testing.assert_close(pyramid["p5"], out5(top))
    torch.testing.assert_close(pyramid["p4"], out4(below))
