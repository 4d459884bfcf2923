"""Necks: a feature pyramid, c2..c5 -> p<min_level>..p<max_level> with equal channels, or c4 alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from smnas_optuna.arch.spec import BACKBONE_TOP
from smnas_optuna.models.layers import Norm


class FPN(FeaturePyramidNetwork):
    """torchvision's FPN (Lin et al. 2017), with levels named after their strides.

    Args:
        in_channels: Channels of c2..c5.
        min_level: Lowest level; 2..5.
        max_level: Highest level.
        channels: Channels of every level.
        norm: Builds a norm layer for a number of channels; None for a bias instead.
        extra: Source of the levels above p5; see :class:`smnas_optuna.arch.NeckSpec`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        min_level: int,
        max_level: int,
        channels: int,
        norm: Norm | None,
        extra: str | None = None,
    ) -> None:
        names = [f"p{level}" for level in range(BACKBONE_TOP + 1, max_level + 1)]
        blocks: dict[str | None, Callable[[], ExtraFPNBlock | None]] = {
            None: lambda: None,
            "pool": lambda: PooledLevels(names),
            "conv_c5": lambda: ConvolvedLevels(names, in_channels[-1], channels, norm, from_backbone=True),
            "conv_p5": lambda: ConvolvedLevels(names, channels, channels, norm, from_backbone=False),
        }
        assert bool(names) == (extra is not None)
        super().__init__(list(in_channels)[min_level - 2 :], channels, blocks[extra](), norm)
        self.levels = tuple(range(min_level, BACKBONE_TOP + 1))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{c<l>: Tensor[B, in_channels, H / 2**l, W / 2**l]} -> {p<l>: Tensor[B, channels, H / 2**l, W / 2**l]}."""
        return dict(super().forward(OrderedDict((f"p{level}", features[f"c{level}"]) for level in self.levels)))


class PooledLevels(ExtraFPNBlock):
    """Adds levels by max-pooling with kernel 1 and stride 2, each from the level below."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)

    def forward(self, results: list[Tensor], _: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return the pyramid's levels and names with the extra ones appended; backbone levels are not used."""
        results = list(results)
        for _name in self.names:
            results.append(F.max_pool2d(results[-1], kernel_size=1, stride=2))
        return results, [*names, *self.names]


class ConvolvedLevels(ExtraFPNBlock):
    """Adds levels by 3x3 convolutions of stride 2: the first on c5 or p5, the others on the ReLU of the level below.

    These are RetinaNet's p6 and p7 (Lin et al. 2017, section 4), each followed by the pyramid's norm if there is one.
    """

    def __init__(
        self, names: Sequence[str], in_channels: int, channels: int, norm: Norm | None, *, from_backbone: bool
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.from_backbone = from_backbone
        for name in self.names:
            layer = Conv2dNormActivation(in_channels, channels, 3, 2, norm_layer=norm, activation_layer=None)
            nn.init.kaiming_uniform_(layer[0].weight, a=1)
            if norm is None:
                nn.init.zeros_(layer[0].bias)
            self.add_module(name, layer)
            in_channels = channels

    def forward(
        self, results: list[Tensor], backbone: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        """Return the pyramid's levels and names with the extra ones appended."""
        results, below = list(results), backbone[-1] if self.from_backbone else results[-1]
        for name in self.names:
            below = self.get_submodule(name)(below)
            results.append(below)
            below = F.relu(below)
        return results, [*names, *self.names]


class SingleLevel(nn.Module):
    """No pyramid: c4 unchanged, named p4 like the pyramid level of the same stride."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{c4: Tensor[B, C, H / 16, W / 16]} -> {p4: the same tensor}."""
        return {"p4": features["c4"]}
