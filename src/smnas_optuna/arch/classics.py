"""Blocks and depths of the classic networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from smnas_optuna.arch.spec import AnyBackboneSpec, EncodedBackboneSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassicNetwork:
    """Composition of one family of backbones.

    Attributes:
        block: Kind of block; see :func:`smnas_optuna.models.encoded.build_block`. ``xbottleneck`` at base width 64 is
            the classic 32x4d.
        depths: Number of blocks at strides 4, 8, 16 and 32.
    """

    block: str
    depths: tuple[int, int, int, int]

    @property
    def stages(self) -> tuple[str, ...]:
        """The blocks as a block string: planes double where the resolution halves."""
        first, *later = self.depths
        return ("1" * first, *("2" + "1" * (depth - 1) for depth in later))


CLASSICS: Mapping[str, ClassicNetwork] = MappingProxyType(
    {
        # He et al. 2016, table 1
        "resnet18": ClassicNetwork(block="basicblock", depths=(2, 2, 2, 2)),
        "resnet34": ClassicNetwork(block="basicblock", depths=(3, 4, 6, 3)),
        "resnet50": ClassicNetwork(block="bottleneck", depths=(3, 4, 6, 3)),
        "resnet101": ClassicNetwork(block="bottleneck", depths=(3, 4, 23, 3)),
        # Xie et al. 2017, table 1
        "resnext50": ClassicNetwork(block="xbottleneck", depths=(3, 4, 6, 3)),
        "resnext101": ClassicNetwork(block="xbottleneck", depths=(3, 4, 23, 3)),
        # Sandler et al. 2018, table 2; its first block, at stride 2, counts as part of the stem
        "mobilenet_v2": ClassicNetwork(block="inverted", depths=(2, 3, 7, 4)),
    }
)
"""Composition by family; the keys are those of ``BACKBONE_FAMILIES``."""


def written_out(backbone: AnyBackboneSpec) -> EncodedBackboneSpec:
    """Write ``backbone`` out block by block, with the same kind of block, depth of each stage and base width.

    A ResNet or ResNeXt stays the same network, stem included. MobileNetV2 becomes another network, because it widens
    its stages differently and has a different stem.
    """
    if isinstance(backbone, EncodedBackboneSpec):
        return backbone
    classic = CLASSICS[backbone.family]
    stem = "conv3" if backbone.family == "mobilenet_v2" else "conv7"
    return EncodedBackboneSpec(block=classic.block, width=backbone.width, stages=classic.stages, stem=stem)
