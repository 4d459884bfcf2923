from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize as torchvision_resize

from smnas_optuna.arch.constants import NORMS
from smnas_optuna.models import fold_for_inference
from smnas_optuna.models.detector import resize
from smnas_optuna.models.layers import WSConv2d, group_norm, num_groups, standardize_weights

from .tiny_detectors import ARCHS as KINDS
from .tiny_detectors import CONSTANTS, build, make_batch, spread_predictions


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


@pytest.mark.parametrize("shape", [(8, 3, 7, 7), (16, 16, 3, 3), (12, 1, 3, 3), (5, 64, 1, 1)])
def test_the_standardized_weight_and_its_gradient_are_those_of_equation_5(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv = WSConv2d(shape[1], shape[0], shape[2])
    nn.init.normal_(conv.weight, mean=0.5, std=0.2)
    weight = conv.weight.detach().double().requires_grad_()
    mean, variance = weight.mean((1, 2, 3), keepdim=True), weight.var((1, 2, 3), correction=0, keepdim=True)
    expected = (weight - mean) / (variance + 1e-5).sqrt()
    upstream = torch.randn(shape)

    conv.standardized().backward(upstream)  # type: ignore[no-untyped-call]
    expected.backward(upstream.double())  # type: ignore[no-untyped-call]

    torch.testing.assert_close(conv.standardized(), expected.float(), atol=1e-5, rtol=1e-5)
    assert weight.grad is not None
    torch.testing.assert_close(conv.weight.grad, weight.grad.float(), atol=1e-4, rtol=1e-4)


def test_weights_are_standardized_in_float32_under_autocast() -> None:
    conv = WSConv2d(4, 5, 3)

    with torch.autocast("cpu", torch.bfloat16):
        under = conv.standardized()

    assert under.dtype == torch.float32
    assert torch.equal(under, conv.standardized())


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
    assert sum(isinstance(module, nn.GroupNorm) for module in folded.modules()) == 2


def _with_statistics(module: nn.Module) -> nn.Module:
    """Every BatchNorm with weights and statistics of its own, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(norm.bias, std=0.3, generator=generator)
            nn.init.normal_(norm.running_mean, std=0.3, generator=generator)
            nn.init.uniform_(norm.running_var, 0.5, 1.5, generator=generator)
    return module.eval()


def test_batch_norm_is_folded_into_the_convolution_before_it_with_and_without_bias() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8, eps=1e-3),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.BatchNorm2d(8, affine=False)),
        nn.BatchNorm2d(8),  # no convolution comes directly before it
    )
    _with_statistics(block)
    image = torch.randn(2, 3, 12, 10)

    folded = fold_for_inference(block)

    torch.testing.assert_close(folded(image), block(image), atol=1e-5, rtol=1e-5)
    kinds = [type(module) for module in folded.modules() if not isinstance(module, nn.Sequential)]
    assert kinds == [nn.Conv2d, nn.Identity, nn.ReLU, nn.Conv2d, nn.Identity, nn.BatchNorm2d]


@pytest.mark.parametrize("arch", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_a_folded_detector_detects_the_same(arch: str, norm: str) -> None:
    detector = build(arch, constants=replace(CONSTANTS, norm=norm))
    _with_statistics(detector)
    spread_predictions(detector)
    before = copy.deepcopy(detector.state_dict())

    folded = fold_for_inference(detector)

    assert not any(isinstance(module, nn.BatchNorm2d | WSConv2d) for module in folded.modules())
    found, expected = folded.detect(make_batch()), detector.detect(make_batch())
    assert sum(len(each["boxes"]) for each in expected) > 10
    for mine, its in zip(found, expected, strict=True):
        # in another order where scores are as good as the same
        near = (mine["boxes"][:, None] - its["boxes"]).abs().amax(dim=-1) < 1e-2
        near &= (mine["scores"][:, None] - its["scores"]).abs() < 1e-4
        near &= mine["labels"][:, None] == its["labels"]
        assert near.any(dim=0).all()
        assert near.any(dim=1).all()
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_folding_leaves_the_original_untouched() -> None:
    block = standardize_weights(_block())
    block.append(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))
    before = copy.deepcopy(block.state_dict())

    folded = fold_for_inference(block)
    for parameter in folded.parameters():
        parameter.data.zero_()

    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert sum(isinstance(module, WSConv2d) for module in block.modules()) == 2
    assert sum(isinstance(module, nn.BatchNorm2d) for module in block.modules()) == 1
    assert block.training
    assert all(parameter.requires_grad for parameter in block.parameters())


def test_a_folded_module_is_for_inference_alone() -> None:
    folded = fold_for_inference(standardize_weights(_block()))

    assert not any(module.training for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize(("height", "width"), [(24, 32), (9, 50), (60, 80)])
def test_resize_is_torchvisions_antialiased_bilinear(height: int, width: int) -> None:
    image = torch.rand(3, 48, 64)

    expected = torchvision_resize(image, [height, width], antialias=True)

    torch.testing.assert_close(resize(image, height, width), expected)
