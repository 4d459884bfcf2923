"""Classic networks with a free base width: image -> features c2..c5, where c<l> has stride 2**l."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from smnas_optuna.models.layers import num_groups
from smnas_optuna.models.mobilenet import MobileNetV2

Norm = Callable[[int], nn.Module]
"""Makes the norm layer for a number of channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetFamily:
    """A row of the tables of He et al. 2016 (ResNet, table 1) and Xie et al. 2017 (ResNeXt, table 1).

    Attributes:
        block: torchvision's residual block.
        depths: Blocks of the four stages.
        grouped: ResNeXt: the block's inner convolution has base width / 2 groups and twice the width, so that a base
            width of 64 is the classic 32x4d.
    """

    block: type[BasicBlock | Bottleneck]
    depths: tuple[int, int, int, int]
    grouped: bool = False


RESNETS = {
    "resnet18": ResNetFamily(block=BasicBlock, depths=(2, 2, 2, 2)),
    "resnet34": ResNetFamily(block=BasicBlock, depths=(3, 4, 6, 3)),
    "resnet50": ResNetFamily(block=Bottleneck, depths=(3, 4, 6, 3)),
    "resnet101": ResNetFamily(block=Bottleneck, depths=(3, 4, 23, 3)),
    "resnext50": ResNetFamily(block=Bottleneck, depths=(3, 4, 6, 3), grouped=True),
    "resnext101": ResNetFamily(block=Bottleneck, depths=(3, 4, 23, 3), grouped=True),
}


def build_backbone(family: str, width: int, norm: Norm) -> ResNet | MobileNetV2:
    """Return the network of ``family`` with base width ``width``; 64 is the classic.

    Args:
        family: One of :data:`smnas_optuna.arch.spec.BACKBONE_FAMILIES`.
        width: Base width.
        norm: Makes the norm layer for a number of channels; one follows every convolution.
    """
    if family == "mobilenet_v2":
        return MobileNetV2(width, norm)
    return ResNet(RESNETS[family], width, norm)


class ResNet(nn.Module):
    """The trunk of a ResNet or ResNeXt; module names are torchvision's, so that its weights fit.

    Args:
        family: Blocks and depths.
        width: Channels of the stem; the stages' planes are 1, 2, 4 and 8 times as many.
        norm: Makes the norm layer for a number of channels.
    """

    def __init__(self, family: ResNetFamily, width: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        planes = [width * 2**stage for stage in range(4)]
        self.out_channels: Sequence[int] = tuple(count * family.block.expansion for count in planes)
        inputs = (width, *self.out_channels[:3])
        groups = num_groups(2 * width, width // 2) if family.grouped else 1
        for stage, stride in enumerate((1, 2, 2, 2)):
            make = partial(_stage, family.block, inputs[stage], planes[stage], family.depths[stage])
            self.add_module(f"layer{stage + 1}", make(stride=stride, groups=groups, norm=norm))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Tensor[B, 3, H, W] -> {c<l>: Tensor[B, out_channels[l - 2], H / 2**l, W / 2**l]} for l in 2..5."""
        features = {}
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = features[f"c{stage + 1}"] = self.get_submodule(f"layer{stage}")(x)
        return features


def _stage(
    block: type[BasicBlock | Bottleneck],
    in_channels: int,
    planes: int,
    depth: int,
    *,
    stride: int,
    groups: int,
    norm: Norm,
) -> nn.Sequential:
    channels = planes * block.expansion
    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))
    # torchvision's inner width is int(planes * base_width / 64) * groups: planes without groups, 2 * planes with them.
    # The small addition keeps the quotient, which is a whole number, from being cut to the one below.
    base_width = 64 if groups == 1 else (128 + 1e-6) / groups
    first = block(in_channels, planes, stride, shortcut, groups=groups, base_width=base_width, norm_layer=norm)
    others = [block(channels, planes, groups=groups, base_width=base_width, norm_layer=norm) for _ in range(1, depth)]
    return nn.Sequential(first, *others)
