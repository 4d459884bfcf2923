"""Backbones of the paper's stage 2, written out block by block: image -> features c2..c5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation

from smnas_optuna.models.layers import Norm, num_groups

INVERTED_EXPANSION = 6
"""MobileNetV2's expansion (Sandler et al. 2018, table 2)."""


class EncodedBackbone(nn.Module):
    """A stem of stride 4, and four stages of one kind of block at strides 4, 8, 16 and 32.

    The first block of stages 2 to 4 has stride 2; doubling of the planes is independent of that. A shortcut is a
    projection if the stride is not 1 or the channels change.

    Args:
        block: ``basicblock``, ``bottleneck``, ``xbottleneck`` (base / 2 groups, inner width of 2 x planes) or
            ``inverted``.
        width: Base channels: channels of the stem and planes of the first blocks.
        stages: One string per stage, with a ``1`` for each block that keeps the planes and a ``2`` for each that
            doubles them.
        norm: Builds a norm layer for a number of channels.
        stem: ``conv3``: two 3x3 convolutions of stride 2, the first with half of the base channels, as in the paper's
            code. ``conv7``: ResNet's 7x7 convolution of stride 2 and max-pool.
    """

    def __init__(self, block: str, width: int, stages: Sequence[str], norm: Norm, stem: str = "conv3") -> None:
        super().__init__()
        self.stem = _classic_stem(width, norm) if stem == "conv7" else _paper_stem(width, norm)
        built, self.out_channels = build_stages(block, width, stages, norm)
        for level, stage in enumerate(built, start=2):
            self.add_module(f"stage{level}", stage)
        self.stages = {f"c{level}": f"stage{level}" for level in range(2, 6)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Tensor[B, 3, H, W] -> {c<l>: Tensor[B, out_channels[l - 2], H / 2**l, W / 2**l]} for l in 2..5."""
        return run_stages(self, self.stages, self.stem(images))

    def take_last_stage(self) -> nn.Module:
        """Remove the stage of c5 from this network and return it: Tensor[B, C, H, W] -> Tensor[B, C', H / 2, W / 2]."""
        return take_stage(self, self.stages, "c5")


def _paper_stem(width: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        Conv2dNormActivation(3, width // 2, stride=2, norm_layer=norm),
        Conv2dNormActivation(width // 2, width, stride=2, norm_layer=norm),
    )


def _classic_stem(width: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        Conv2dNormActivation(3, width, kernel_size=7, stride=2, norm_layer=norm),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def run_stages(network: nn.Module, stages: Mapping[str, str], x: Tensor) -> dict[str, Tensor]:
    """Run the named ``stages`` of ``network`` in sequence, and return the output of each by its level."""
    features = {}
    for level, name in stages.items():
        x = features[level] = network.get_submodule(name)(x)
    return features


def take_stage(network: nn.Module, stages: dict[str, str], level: str) -> nn.Module:
    """Remove the stage of ``level`` from ``network`` and ``stages``, and return it."""
    name = stages.pop(level)
    stage = network.get_submodule(name)
    delattr(network, name)
    return stage


def build_stages(
    block: str, width: int, stages: Sequence[str], norm: Norm
) -> tuple[list[nn.Sequential], tuple[int, ...]]:
    """Return the stages behind a stem of ``width`` channels, and the output channels of each.

    Args:
        block: Kind of the blocks.
        width: Base channels.
        stages: As in :class:`EncodedBackbone`.
        norm: Builds a norm layer for a number of channels.
    """
    groups = num_groups(2 * width, width // 2)
    channels, planes = width, width
    built, out_channels = [], []
    for index, digits in enumerate(stages):
        blocks = []
        for position, digit in enumerate(digits):
            planes *= int(digit)
            stride = 2 if index > 0 and position == 0 else 1
            made, channels = build_block(block, channels, planes, stride=stride, groups=groups, norm=norm)
            blocks.append(made)
        built.append(nn.Sequential(*blocks))
        out_channels.append(channels)
    return built, tuple(out_channels)


def build_block(
    block: str, in_channels: int, planes: int, *, stride: int, groups: int, norm: Norm
) -> tuple[nn.Module, int]:
    """Return one of torchvision's blocks, and its output channels.

    Args:
        block: Kind of the block.
        in_channels: Input channels.
        planes: Width of the block; a bottleneck has 4 times as many output channels.
        stride: 1 or 2.
        groups: Groups of the inner convolution of an ``xbottleneck``, a divisor of 2 x planes.
        norm: Builds a norm layer for a number of channels.
    """
    if block == "inverted":
        return InvertedResidual(in_channels, planes, stride, INVERTED_EXPANSION, norm_layer=norm), planes
    kind = BasicBlock if block == "basicblock" else Bottleneck
    channels = planes * kind.expansion
    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))
    # torchvision's inner width is int(planes * base_width / 64) * groups: planes without groups, 2 * planes with them.
    # The quotient is an integer; the small addition keeps int() from truncating it to the next lower one.
    grouped = {"groups": groups, "base_width": (128 + 1e-6) / groups} if block == "xbottleneck" else {}
    return kind(in_channels, planes, stride, shortcut, norm_layer=norm, **grouped), channels
