from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize as torchvision_resize

from smnas_optuna.models import fold_for_inference
from smnas_optuna.models.detector import resize
from smnas_optuna.models.layers import WSConv2d, group_norm, num_groups, standardize_weights


@pytest.mark.parametrize("at_most", [1, 2, 3, 16, 32, 600])
def test_groups_are_the_largest_divisor_within_the_limit(at_most: int) -> None:
    for channels in range(1, 513):
        divisors = [groups for groups in range(1, channels + 1) if channels % groups == 0 and groups <= at_most]

        assert num_groups(channels, at_most) == max(divisors)


@pytest.mark.parametrize("at_most", [0, -3])
def test_there_is_at_least_one_group(at_most: int) -> None:
    assert num_groups(8, at_most) == 1


@pytest.mark.parametrize(
    ("channels", "at_most", "groups"),
    [(256, 32, 32), (64, 32, 32), (32, 32, 16), (12, 32, 6), (5, 32, 1), (48, 24, 24)],
)
def test_a_group_has_at_least_two_channels(channels: int, at_most: int, groups: int) -> None:
    norm = group_norm(at_most)(channels)

    assert (norm.num_groups, norm.num_channels) == (groups, channels)
    norm(torch.randn(1, channels, 1, 1))  # torch refuses a single value in a group


def _slow_ws_conv(image: Tensor, conv: nn.Conv2d) -> Tensor:
    """Each filter standardised by itself, and applied place by place to one image; no padding, stride or groups."""
    size = conv.kernel_size[0]
    height, width = (edge - size + 1 for edge in image.shape[-2:])
    out = torch.empty(conv.out_channels, height, width)
    for number, weights in enumerate(conv.weight.detach().double()):
        mean = sum(weights.flatten().tolist()) / weights.numel()
        variance = sum((value - mean) ** 2 for value in weights.flatten().tolist()) / weights.numel()
        standard = (weights - mean) / (variance + 1e-5) ** 0.5
        for y in range(height):
            for x in range(width):
                out[number, y, x] = (image[:, y : y + size, x : x + size].double() * standard).sum()
    return out


def test_a_ws_convolution_agrees_with_a_slow_obvious_one() -> None:
    torch.manual_seed(0)
    conv = WSConv2d(3, 4, kernel_size=3, bias=False)
    image = torch.randn(3, 6, 7)

    torch.testing.assert_close(conv(image[None])[0].detach(), _slow_ws_conv(image, conv), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(3, 8, 7), (16, 8, 3), (8, 32, 1)])
def test_filters_have_mean_zero_and_variance_one(inputs: int, outputs: int, size: int) -> None:
    torch.manual_seed(0)
    conv = WSConv2d(inputs, outputs, size)
    nn.init.normal_(conv.weight, mean=0.7, std=2.0)

    filters = conv.standardized().flatten(1)

    torch.testing.assert_close(filters.mean(1), torch.zeros(outputs), atol=1e-5, rtol=0)
    torch.testing.assert_close(filters.var(1, correction=0), torch.ones(outputs), atol=1e-3, rtol=0)


def test_standardized_filters_do_not_see_scale_and_offset() -> None:
    torch.manual_seed(0)
    conv, other = WSConv2d(4, 5, 3), WSConv2d(4, 5, 3)
    other.weight.data = conv.weight.data * 3 + 2

    torch.testing.assert_close(other.standardized(), conv.standardized(), atol=2e-3, rtol=0)


def test_gradients_pass_through_the_standardization() -> None:
    torch.manual_seed(0)
    conv = WSConv2d(2, 3, 3, bias=False).double()
    image = torch.randn(1, 2, 5, 5, dtype=torch.float64)

    def apply(weight: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"weight": weight}, (image,))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(apply, (conv.weight,))


def _block() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.GroupNorm(2, 8)),
    )


def test_standardizing_turns_every_convolution_and_keeps_weights_and_names() -> None:
    block = _block()
    before = copy.deepcopy(block.state_dict())

    standardize_weights(block)

    assert [type(module) for module in block.modules() if isinstance(module, nn.Conv2d)] == [WSConv2d, WSConv2d]
    assert list(block.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert all(parameter.requires_grad for parameter in block.parameters())


def test_a_standardized_block_keeps_stride_padding_dilation_groups_and_bias() -> None:
    block = standardize_weights(_block())
    image = torch.randn(2, 3, 12, 10)
    first, second = (module for module in block.modules() if isinstance(module, WSConv2d))

    x = F.conv2d(image, first.standardized(), stride=2, padding=1)
    x = F.relu(F.group_norm(x, 2))
    x = F.conv2d(x, second.standardized(), second.bias, padding=2, dilation=2, groups=4)

    torch.testing.assert_close(block(image), F.group_norm(x, 2))


def test_folding_gives_the_same_output_without_standardising_again() -> None:
    block = standardize_weights(_block())
    image = torch.randn(2, 3, 12, 10)

    folded = fold_for_inference(block)

    torch.testing.assert_close(folded(image), block(image))
    assert not any(isinstance(module, WSConv2d) for module in folded.modules())
    assert sum(isinstance(module, nn.Conv2d) for module in folded.modules()) == 2


def test_folding_leaves_the_original_untouched() -> None:
    block = standardize_weights(_block())
    before = copy.deepcopy(block.state_dict())

    folded = fold_for_inference(block)
    for parameter in folded.parameters():
        parameter.data.zero_()

    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert sum(isinstance(module, WSConv2d) for module in block.modules()) == 2


@pytest.mark.parametrize(("height", "width"), [(24, 32), (9, 50), (60, 80)])
def test_resize_is_torchvisions_antialiased_bilinear(height: int, width: int) -> None:
    image = torch.rand(3, 48, 64)

    expected = torchvision_resize(image, [height, width], antialias=True)

    torch.testing.assert_close(resize(image, height, width), expected)
