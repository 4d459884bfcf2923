"""Blocks and depths of the ResNets and ResNeXts; MobileNetV2's are in :mod:`smnas_optuna.arch.mobilenet`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassicNetwork:
    """Composition of one family of ResNets or ResNeXts.

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
    }
)
"""Composition of the ResNets and ResNeXts by family."""
CLASSIC_STEM = "conv7"
"""Stem of every ResNet and ResNeXt; see :class:`smnas_optuna.arch.EncodedBackboneSpec`."""
