"""Trunk of MobileNetV2 with any base width (Sandler et al. 2018, table 2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

from smnas_optuna.models.layers import Norm

STEM_CHANNELS = 32
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first block) of each row, at the classic width."""
LEVEL_ENDS = {"c2": 1, "c3": 2, "c4": 4, "c5": 6}
"""Last row of each level."""
CLASSIC_WIDTH = 64
"""Base width with width multiplier 1; the same number as in the other families."""


class MobileNetV2(nn.Module):
    """Trunk of MobileNetV2, without the last 1x1 convolution. Module names are torchvision's.

    Args:
        width: Base width; 64 is the classic network. Channels are scaled by width / 64; see :func:`scale_channels`.
        norm: Builds a norm layer for a number of channels.
    """

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        channels = scale_channels(STEM_CHANNELS, width)
        layers: list[nn.Module] = [
            Conv2dNormActivation(3, channels, stride=2, norm_layer=norm, activation_layer=nn.ReLU6)
        ]
        ends: list[tuple[int, int]] = []  # of each row: the position of its last layer, and its channels
        for expansion, classic, depth, stride in STAGES:
            planes = scale_channels(classic, width)
            for block in range(depth):
                first = block == 0
                layers.append(InvertedResidual(channels, planes, stride if first else 1, expansion, norm_layer=norm))
                channels = planes
            ends.append((len(layers) - 1, channels))
        self.features = nn.Sequential(*layers)
        self.level_ends = {ends[row][0]: level for level, row in LEVEL_ENDS.items()}
        self.out_channels: Sequence[int] = tuple(ends[row][1] for row in LEVEL_ENDS.values())

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


def scale_channels(classic: int, width: int) -> int:
    """Return the channels at base width ``width`` of a layer with ``classic`` channels at base width 64.

    They are rounded to a multiple of 8, and at most 10 % down. Below 16 channels the multiple is 2, so that narrow
    networks keep their shape.
    """
    wanted = classic * width / CLASSIC_WIDTH
    step = 8 if wanted >= 16 else 2
    rounded = max(step, int(wanted + step / 2) // step * step)
    return rounded + step if rounded < 0.9 * wanted else rounded
