"""Specs of well-known detectors by name, at classic widths. They are trained from scratch like every candidate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from smnas_optuna.arch.codec import EXAMPLE, decode
from smnas_optuna.arch.spec import DetectorSpec
from smnas_optuna.errors import ArchError, quote

_E2 = "basicblock-w56-12-11111-211-1112"
_E3 = "bottleneck-w56-211-111111111-2111111-11112111"
_E4 = "xbottleneck-w56-21-21-111111111111111-2111111"

BASELINES: Mapping[str, DetectorSpec] = MappingProxyType(
    {
        # Ren et al. 2015 with the pyramid of Lin et al. 2017, like torchvision's fasterrcnn_resnet50_fpn.
        "faster_rcnn_r18_fpn": decode("1333x800.resnet18-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r34_fpn": decode("1333x800.resnet34-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r50_fpn": decode("1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r101_fpn": decode("1333x800.resnet101-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        # Cai and Vasconcelos 2018: the same, with three RoI head stages.
        "cascade_rcnn_r18_fpn": decode("1333x800.resnet18-w64.fpn-p2-p6-c256.rpn.cascade3-w1024"),
        "cascade_rcnn_r50_fpn": decode("1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.cascade3-w1024"),
        # Lin et al. 2017, but p6 and p7 are computed from p5 instead of c5, as in torchvision's retinanet_resnet50_fpn.
        "retinanet_r18_fpn": decode("1333x800.resnet18-w64.fpn-p3-p7-c256-convp5.none.retina"),
        "retinanet_r50_fpn": decode("1333x800.resnet50-w64.fpn-p3-p7-c256-convp5.none.retina"),
        # The published models E0, E2, E3 and E4, found by SM-NAS on COCO (Yao et al. 2020).
        "sm_nas_e0": decode("512x512.basicblock-w64-1-21-21-12.fpn-p3-p6-c128.rpn.fc-w1024"),
        "sm_nas_e2": decode(f"800x600.{_E2}.fpn-p2-p6-c128.rpn.cascade3-w1024"),
        "sm_nas_e3": decode(f"800x600.{_E3}.fpn-p2-p6-c128.rpn.cascade3-w1024"),
        "sm_nas_e4": decode(f"800x600.{_E4}.fpn-p2-p6-c256-convc5.ga.cascade3-w1024"),
    }
)
"""Specs by name. The input size is the usual one for COCO, 1333 x 800; the SM-NAS models have their published sizes.

A study lists its own baselines, with its own sizes and widths.
"""


def find_spec(arch: str) -> DetectorSpec:
    """Return the spec named by ``arch``: a key of ``BASELINES``, or a canonical string.

    Raises:
        ArchError: If ``arch`` is neither.
    """
    if arch in BASELINES:
        return BASELINES[arch]
    if "." not in arch:
        raise ArchError(
            f"architecture {quote(arch)}: no detector has this name",
            fix=f"take one of {', '.join(BASELINES)}, or a canonical string such as {EXAMPLE}",
        )
    return decode(arch)
