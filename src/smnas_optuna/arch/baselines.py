"""Well-known detectors by name, as specs: classic widths, trained from scratch like every candidate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from smnas_optuna.arch.codec import decode
from smnas_optuna.arch.spec import DetectorSpec

BASELINES: Mapping[str, DetectorSpec] = MappingProxyType(
    {
        "faster_rcnn_r18_fpn": decode("1333x800.resnet18-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r34_fpn": decode("1333x800.resnet34-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r50_fpn": decode("1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "faster_rcnn_r101_fpn": decode("1333x800.resnet101-w64.fpn-p2-p6-c256.rpn.fc-w1024"),
        "retinanet_r18_fpn": decode("1333x800.resnet18-w64.fpn-p3-p7-c256.none.retina"),
        "retinanet_r50_fpn": decode("1333x800.resnet50-w64.fpn-p3-p7-c256.none.retina"),
        "sm_nas_e0": decode("512x512.basicblock-w64-1-21-21-12.fpn-p3-p6-c128.rpn.fc-w1024"),
    }
)
"""Name -> spec; the input size is COCO's usual 1333 x 800, for SM-NAS's E0 the published one.

A study lists its own baselines, at its own sizes and widths.
"""
