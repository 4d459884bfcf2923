"""Normalisation for training from scratch: GroupNorm with Weight Standardization."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Norm = Callable[[int], nn.Module]
"""Makes the norm layer for a number of channels."""


def num_groups(channels: int, at_most: int) -> int:
    """The largest divisor of ``channels`` that is no larger than ``at_most``; at least 1."""
    return next(groups for groups in range(max(1, min(at_most, channels)), 0, -1) if channels % groups == 0)


def group_norm(at_most: int) -> Callable[[int], nn.GroupNorm]:
    """A norm layer for torchvision's blocks: GroupNorm with up to ``at_most`` groups of at least two channels.

    A group of one channel has nothing to normalise over where a level is a single place, and torch refuses it.
    """
    return lambda channels: nn.GroupNorm(num_groups(channels, min(at_most, channels // 2)), channels)


class WSConv2d(nn.Conv2d):
    """Convolution whose filters have mean 0 and variance 1 (Weight Standardization, Qiao et al. 2019, eq. 5)."""

    def forward(self, input: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, C', H', W']."""
        return self._conv_forward(input, self.standardized(), self.bias)  # type: ignore[no-any-return]

    def standardized(self) -> Tensor:
        """The weight that is applied, in float32 like the weight itself."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        return (self.weight - mean) * torch.rsqrt(variance + 1e-5)


def standardize_weights(module: Module) -> Module:
    """Turn every convolution inside ``module`` into a :class:`WSConv2d`, in place; a norm must follow each of them."""
    return _replace_convs(module, nn.Conv2d, lambda conv: _convolution(WSConv2d, conv, conv.weight))


def fold_weight_standardization(module: Module) -> Module:
    """A copy of ``module`` for inference, with its standardised weights stored instead of computed at each call."""
    return _replace_convs(copy.deepcopy(module), WSConv2d, lambda conv: _convolution(nn.Conv2d, conv, _detached(conv)))


def _detached(conv: WSConv2d) -> nn.Parameter:
    return nn.Parameter(conv.standardized().detach(), requires_grad=False)


def _convolution(kind: type[nn.Conv2d], like: nn.Conv2d, weight: nn.Parameter) -> nn.Conv2d:
    conv = kind(
        like.in_channels,
        like.out_channels,
        like.kernel_size,  # type: ignore[arg-type]  # torch annotates the stored tuples loosely
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        like.groups,
        bias=False,
        device="meta",  # the weight is replaced at once
    )
    conv.weight, conv.bias = weight, like.bias
    return conv


def _replace_convs(module: Module, kind: type[nn.Conv2d], make: Callable[..., nn.Conv2d]) -> Module:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                setattr(parent, name, make(child))
    return module
