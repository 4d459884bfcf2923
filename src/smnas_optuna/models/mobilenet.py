"""Trunk of MobileNetV2 with any base width, depths and expansions (Sandler et al. 2018, table 2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

from smnas_optuna.arch.mobilenet import (
    FIRST_CHANNELS,
    ROW_CHANNELS,
    ROW_LEVELS,
    ROW_STRIDES,
    STEM_CHANNELS,
    scale_channels,
)
from smnas_optuna.models.layers import Norm


class MobileNetV2(nn.Module):
    """Trunk of MobileNetV2, without the last 1x1 convolution. Module names are torchvision's.

    Args:
        width: Base width; 64 is the classic network. Channels are scaled by width / 64; see
            :func:`smnas_optuna.arch.mobilenet.scale_channels`.
        depths: Number of blocks in each row behind the first block.
        expansions: Expansion of the blocks in each of these rows.
        norm: Builds a norm layer for a number of channels.
    """

    def __init__(self, width: int, depths: Sequence[int], expansions: Sequence[int], norm: Norm) -> None:
        super().__init__()
        stem, channels = scale_channels(STEM_CHANNELS, width), scale_channels(FIRST_CHANNELS, width)
        layers: list[nn.Module] = [
            Conv2dNormActivation(3, stem, stride=2, norm_layer=norm, activation_layer=nn.ReLU6),
            InvertedResidual(stem, channels, stride=1, expand_ratio=1, norm_layer=norm),
        ]
        ends: dict[int, tuple[int, int]] = {}  # of each level: the position of its last layer, and its channels
        rows = zip(depths, expansions, ROW_CHANNELS, ROW_STRIDES, ROW_LEVELS, strict=True)
        for depth, expansion, classic, stride, level in rows:
            planes = scale_channels(classic, width)
            for block in range(depth):
                layers.append(InvertedResidual(channels, planes, 1 if block else stride, expansion, norm_layer=norm))
                channels = planes
            ends[level] = len(layers) - 1, channels
        self.features = nn.Sequential(*layers)
        self.level_ends = {position: f"c{level}" for level, (position, _) in ends.items()}
        self.out_channels: Sequence[int] = tuple(channels for _, channels in ends.values())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Tensor[B, 3, H, W] -> {c<l>: Tensor[B, out_channels[l - 2], H / 2**l, W / 2**l]} for l in 2..5."""
        levels, x = {}, images
        for position, layer in enumerate(self.features):
            x = layer(x)
            if position in self.level_ends:
                levels[self.level_ends[position]] = x
        return levels

    def take_last_stage(self) -> nn.Module:
        """Remove the layers behind c4 and return them: Tensor[B, C, H, W] -> Tensor[B, C', H / 2, W / 2]."""
        (end,) = (position for position, level in self.level_ends.items() if level == "c4")
        stage = self.features[end + 1 :]
        self.features = self.features[: end + 1]
        return stage
