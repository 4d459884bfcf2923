"""Classic networks with a free base width: image -> features c2..c5, where c<l> has stride 2**l."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""Family -> (block, blocks per stage), He et al. 2016, table 1."""


class ResNet(nn.Module):
    """ResNet's trunk; module names are torchvision's, so that its weights fit.

    Args:
        block: torchvision's residual block.
        depths: Blocks of the four stages.
        width: Channels of the stem; the stages' planes are 1, 2, 4 and 8 times as many.
        norm: Makes the norm layer for a number of channels.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, int, int, int],
        width: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        planes = [width * 2**stage for stage in range(4)]
        self.out_channels = tuple(count * block.expansion for count in planes)
        inputs = (width, *self.out_channels[:3])
        self.layer1 = _stage(block, inputs[0], planes[0], depths[0], 1, norm)
        self.layer2 = _stage(block, inputs[1], planes[1], depths[1], 2, norm)
        self.layer3 = _stage(block, inputs[2], planes[2], depths[2], 2, norm)
        self.layer4 = _stage(block, inputs[3], planes[3], depths[3], 2, norm)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Tensor[B, 3, H, W] -> {c<l>: Tensor[B, out_channels[l - 2], H / 2**l, W / 2**l]} for l in 2..5."""
        features = {}
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for level, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4), start=2):
            x = features[f"c{level}"] = stage(x)
        return features


def _stage(
    block: type[BasicBlock | Bottleneck],
    in_channels: int,
    planes: int,
    depth: int,
    stride: int,
    norm: Callable[[int], nn.Module],
) -> nn.Sequential:
    channels = planes * block.expansion
    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))
    blocks = [block(in_channels, planes, stride, shortcut, norm_layer=norm)]
    blocks += [block(channels, planes, norm_layer=norm) for _ in range(1, depth)]
    return nn.Sequential(*blocks)
