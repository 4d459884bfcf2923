"""Feature pyramid: c2..c5 -> p<min_level>..p<max_level>, all of one width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from smnas_optuna.models.layers import Norm

BACKBONE_TOP = 5
"""The backbone's last level; the pyramid's levels above it are made from the one below."""


class FPN(FeaturePyramidNetwork):
    """torchvision's FPN (Lin et al. 2017) with the levels named after their strides.

    Args:
        in_channels: Channels of c2..c5.
        min_level: First level; 2..5.
        max_level: Last level; those above 5 are sub-sampled from the one below.
        channels: Width of every level.
        norm: Makes the norm layer for a number of channels; the convolutions lose their bias.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        min_level: int,
        max_level: int,
        channels: int,
        norm: Norm,
    ) -> None:
        names = [f"p{level}" for level in range(BACKBONE_TOP + 1, max_level + 1)]
        extra = PooledLevels(names) if names else None
        super().__init__(list(in_channels)[min_level - 2 :], channels, extra, norm)
        self.levels = tuple(range(min_level, BACKBONE_TOP + 1))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{c<l>: Tensor[B, in_channels, H / 2**l, W / 2**l]} -> {p<l>: Tensor[B, channels, H / 2**l, W / 2**l]}."""
        return dict(super().forward(OrderedDict((f"p{level}", features[f"c{level}"]) for level in self.levels)))


class PooledLevels(ExtraFPNBlock):
    """Adds levels by max-pooling with kernel 1 and stride 2, one above the other."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)

    def forward(self, results: list[Tensor], _: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """The pyramid's levels and names, with the further ones at the end; the backbone's are not used."""
        results = list(results)
        for _name in self.names:
            results.append(F.max_pool2d(results[-1], kernel_size=1, stride=2))
        return results, [*names, *self.names]
