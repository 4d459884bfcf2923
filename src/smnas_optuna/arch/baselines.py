"""Well-known detectors by name, as specs: classic widths, trained from scratch like every candidate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from smnas_optuna.arch.codec import EXAMPLE, decode
from smnas_optuna.arch.spec import DetectorSpec
from smnas_optuna.errors import ArchError

_E2 = "basicblock-w56-12-11111-211-1112"
_E3 = "bottleneck-w56-211-111111111-2111111-11112111"
_E4 = "xbottleneck-w56-21-21-111111111111111-2111111"

BASELINES: Mapping[str, DetectorSpec] = MappingProxyType(
    {
        # Ren et al. 2015 with the pyramid of Lin et al. 2017; as torchvision's fasterrcnn_resnet50_fpn.
        "faster_rcnn_r18_fpn": decode("1333x800.resnet18-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r34_fpn": decode("1333x800.resnet34-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r50_fpn": decode("1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r101_fpn": decode("1333x800.resnet101-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        # Cai and Vasconcelos 2018: the same with three stages.
        "cascade_rcnn_r18_fpn": decode("1333x800.resnet18-w64.fpn-p2-p6-c256.rpn.cascade3-w1024"),
        "cascade_rcnn_r50_fpn": decode("1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.cascade3-w1024"),
        # Lin et al. 2017; p6 and p7 as in torchvision's retinanet_resnet50_fpn, from p5 rather than from c5.
        "retinanet_r18_fpn": decode("1333x800.resnet18-w64.fpn-p3-p7-c256-convp5.none.retina"),
        "retinanet_r50_fpn": decode("1333x800.resnet50-w64.fpn-p3-p7-c256-convp5.none.retina"),
        # What SM-NAS found on COCO: the published models E0, E2, E3 and E4 (Yao et al. 2020).
        "sm_nas_e0": decode("512x512.basicblock-w64-1-21-21-12.fpn-p3-p6-c128.rpn.fc-w1024"),
        "sm_nas_e2": decode(f"800x600.{_E2}.fpn-p2-p6-c128.rpn.cascade3-w1024"),
        "sm_nas_e3": decode(f"800x600.{_E3}.fpn-p2-p6-c128.rpn.cascade3-w1024"),
        "sm_nas_e4": decode(f"800x600.{_E4}.fpn-p2-p6-c256-convc5.ga.cascade3-w1024"),
    }
)
"""Name -> spec; the input size is COCO's usual 1333 x 800, for SM-NAS's own the published one.

A study lists its own baselines, at its own sizes and widths.
"""


def find_spec(arch: str) -> DetectorSpec:
    """The detector that ``arch`` names: a key of ``BASELINES``, or a canonical string.

    Raises:
        ArchError: If it is neither.
    """
    if arch in BASELINES:
        return BASELINES[arch]
    if "." not in arch:
        raise ArchError(
            f"architecture {arch!r}: no detector has this name",
            fix=f"take one of {', '.join(BASELINES)}, or write one out, such as {EXAMPLE}",
        )
    return decode(arch)
