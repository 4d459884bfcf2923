"""Classic networks of any base width: image -> features c2..c5, where c<l> has stride 2**l."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from smnas_optuna.arch.classics import CLASSICS, ClassicNetwork
from smnas_optuna.arch.spec import MOBILENET, AnyBackboneSpec, EncodedBackboneSpec, MobileNetSpec, written_out
from smnas_optuna.models.encoded import EncodedBackbone, build_stages, run_stages, take_stage
from smnas_optuna.models.layers import Norm
from smnas_optuna.models.mobilenet import MobileNetV2


def build_backbone(spec: AnyBackboneSpec, norm: Norm) -> Backbone:
    """Return the network that ``spec`` describes.

    Args:
        spec: A classic network at a base width, or one that is written out.
        norm: Builds a norm layer for a number of channels; one follows every convolution.
    """
    if isinstance(spec, EncodedBackboneSpec):
        return EncodedBackbone(spec.block, spec.width, spec.stages, norm, spec.stem)
    if isinstance(spec, MobileNetSpec):
        return MobileNetV2(spec.width, spec.depths, spec.expansions, norm)
    if spec.family == MOBILENET:
        return build_backbone(written_out(spec), norm)
    return ResNet(CLASSICS[spec.family], spec.width, norm)


class ResNet(nn.Module):
    """Trunk of a ResNet or ResNeXt. Module names are torchvision's, so its weights can be loaded.

    Args:
        family: Blocks and depths.
        width: Channels of the stem; the planes of the stages are 1, 2, 4 and 8 times as many.
        norm: Builds a norm layer for a number of channels.

    Attributes:
        old_names: Beginning of the names that the weights had when this network was written out block by block.
    """

    old_names: Mapping[str, str] = {
        "stem.0.0.": "conv1.",
        "stem.0.1.": "bn1.",
        **{f"stage{number + 1}.": f"layer{number}." for number in range(1, 5)},
    }

    def __init__(self, family: ClassicNetwork, width: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        built, self.out_channels = build_stages(family.block, width, family.stages, norm)
        for number, stage in enumerate(built, start=1):
            self.add_module(f"layer{number}", stage)

        self.stages = {f"c{number + 1}": f"layer{number}" for number in range(1, 5)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Tensor[B, 3, H, W] -> {c<l>: Tensor[B, out_channels[l - 2], H / 2**l, W / 2**l]} for l in 2..5."""
        return run_stages(self, self.stages, self.maxpool(self.relu(self.bn1(self.conv1(images)))))

    def take_last_stage(self) -> nn.Module:
        """Remove the stage of c5 from this network and return it: Tensor[B, C, H, W] -> Tensor[B, C', H / 2, W / 2]."""
        return take_stage(self, self.stages, "c5")


Backbone = ResNet | MobileNetV2 | EncodedBackbone
