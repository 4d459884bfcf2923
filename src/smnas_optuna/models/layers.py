"""Normalisation for training from scratch (GroupNorm, Weight Standardization), and its folding for inference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

Module = TypeVar("Module", bound=nn.Module)
Norm = Callable[[int], nn.Module]
"""Builds a norm layer for a number of channels."""
EPS = 1e-5
"""Value added to the variance of a filter, so that a filter of equal weights has a gradient."""


def num_groups(channels: int, at_most: int) -> int:
    """Return the largest divisor of ``channels`` that is at most ``at_most``; at least 1."""
    return next(groups for groups in range(max(1, min(at_most, channels)), 0, -1) if channels % groups == 0)


def group_norm(at_most: int) -> Callable[[int], nn.GroupNorm]:
    """Return a builder of GroupNorm layers with up to ``at_most`` groups of at least two channels.

    A group of one channel has a single value if a level is one pixel. That cannot be normalised, and torch raises.
    """
    return lambda channels: nn.GroupNorm(num_groups(channels, min(at_most, channels // 2)), channels)


class WSConv2d(nn.Conv2d):
    """Convolution whose filters have mean 0 and variance 1 (Weight Standardization, Qiao et al. 2019, eq. 5)."""

    def forward(self, input: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, C', H', W']."""
        return self._conv_forward(input, self.standardized(), self.bias)  # type: ignore[no-any-return]

    def standardized(self) -> Tensor:
        """Return the standardised weight, in float32 like the weight itself.

        Each filter is a row of a LayerNorm without weights: one kernel in the forward and one in the backward pass. On
        a CPU that is four times as fast as mean, variance, root and product in sequence.
        """
        filters = self.weight.flatten(1)
        return F.layer_norm(filters, filters.shape[1:], eps=EPS).view(self.weight.shape)


def standardize_weights(module: Module) -> Module:
    """Replace every convolution inside ``module`` by a :class:`WSConv2d`, in place; a norm must follow each of them."""
    return _replace_convs(module, nn.Conv2d, lambda conv: _convolution(WSConv2d, conv, conv.weight))


def fold_for_inference(module: Module) -> Module:
    """Return a copy of ``module`` for inference, with constant operations folded into the weights.

    Standardised weights are stored instead of computed at each call, and each BatchNorm is folded into the convolution
    before it. A BatchNorm belongs to a convolution if it directly follows it in the same parent, as in all of
    torchvision's blocks. GroupNorm depends on the image and stays. The copy is in evaluation mode and must stay there;
    its weights have no gradients.
    """
    folded = copy.deepcopy(module).requires_grad_(False)
    _replace_convs(folded, WSConv2d, lambda conv: _convolution(nn.Conv2d, conv, _frozen(conv.standardized())))
    for parent in list(folded.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold_norm(conv, norm)
                setattr(parent, name, nn.Identity())
    return folded.eval()


def _fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


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
