"""The canonical string of an architecture, and back: five modules between dots, safe in a shell and as a folder's name.

``128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256`` is an input of 128 x 96, ResNet-18 of base width 16, an FPN over
p2..p5 with 64 channels, an RPN and a 2-FC head of width 256; ``....none.retina`` is one-stage. A backbone may also be
written out block by block: ``basicblock-w56-121-211-1111-12111`` has base channels 56, a new resolution at each hyphen,
and a ``2`` for each block that doubles the planes.
"""

from __future__ import annotations

import re

from smnas_optuna.arch.spec import (
    BLOCKS,
    AnyBackboneSpec,
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    HeadSpec,
    InputSize,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
)
from smnas_optuna.errors import ArchError

EXAMPLE = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"


def encode(spec: DetectorSpec) -> str:
    """Return the one string that names ``spec``."""
    backbone, neck, head = spec.backbone, spec.neck, spec.head
    modules = (
        str(spec.input_size),
        _encode_backbone(backbone),
        f"fpn-p{neck.min_level}-p{neck.max_level}-c{neck.channels}",
        "none" if spec.rpn is None else "rpn",
        "retina" if isinstance(head, RetinaHeadSpec) else f"fc-w{head.width}",
    )
    return ".".join(modules)


def decode(arch: str) -> DetectorSpec:
    """Return the spec written as ``arch``.

    Raises:
        ArchError: If ``arch`` is not a canonical string, or names an impossible detector.
    """
    modules = arch.split(".")
    if len(modules) != 5:
        raise ArchError(
            f"architecture {arch!r}: {len(modules)} modules instead of 5",
            fix=f"write input size, backbone, neck, RPN and head between dots, such as {EXAMPLE}",
        )
    size, backbone, neck, rpn, head = modules
    try:
        spec = DetectorSpec(
            input_size=parse_input_size(size),
            backbone=_parse_backbone(backbone),
            neck=_parse_neck(neck),
            rpn=_parse_rpn(rpn),
            head=_parse_head(head),
        )
    except ArchError as error:
        raise ArchError(f"architecture {arch!r}: {error.message}", fix=error.fix) from None
    if encode(spec) != arch:
        raise ArchError(f"architecture {arch!r} is not written canonically", fix=f"write {encode(spec)}")
    return spec


def parse_input_size(text: str) -> InputSize:
    """Return the input size written as ``<long>x<short>``.

    Raises:
        ArchError: If it is written in another way, or is out of range.
    """
    long, short = _match(r"(\d{1,5})x(\d{1,5})", text, "input size", "320x240")
    return InputSize(long=int(long), short=int(short))


def describe(spec: DetectorSpec) -> str:
    """Return the architecture in words, for people."""
    neck = spec.neck
    head = "RetinaNet head (one-stage)"
    if isinstance(spec.head, FcHeadSpec):
        head = f"RPN and a 2-FC head of width {spec.head.width}"
    backbone = spec.backbone
    if isinstance(backbone, EncodedBackboneSpec):
        name = f"{len(''.join(backbone.stages))} blocks ({backbone.block} {'-'.join(backbone.stages)})"
    else:
        name = backbone.family
    return (
        f"input {spec.input_size} px, {name} with base width {backbone.width}, "
        f"FPN p{neck.min_level}..p{neck.max_level} with {neck.channels} channels, {head}"
    )


def _encode_backbone(backbone: AnyBackboneSpec) -> str:
    if isinstance(backbone, EncodedBackboneSpec):
        return "-".join((backbone.block, f"w{backbone.width}", *backbone.stages))
    return f"{backbone.family}-w{backbone.width}"


def _parse_backbone(text: str) -> AnyBackboneSpec:
    if text.partition("-")[0] in BLOCKS:
        block, width, stages = _match(r"([a-z]+)-w(\d{1,5})-([12-]+)", text, "backbone", "basicblock-w64-11-21-21-21")
        return EncodedBackboneSpec(block=block, width=int(width), stages=tuple(stages.split("-")))
    family, width = _match(r"([a-z0-9_]+)-w(\d{1,5})", text, "backbone", "resnet18-w16")
    return BackboneSpec(family=family, width=int(width))


def _parse_neck(text: str) -> NeckSpec:
    lowest, highest, channels = _match(r"fpn-p(\d)-p(\d)-c(\d{1,5})", text, "neck", "fpn-p2-p5-c64")
    return NeckSpec(min_level=int(lowest), max_level=int(highest), channels=int(channels))


def _parse_rpn(text: str) -> RpnSpec | None:
    (kind,) = _match(r"(none|rpn)", text, "RPN", "rpn, or none")
    return None if kind == "none" else RpnSpec()


def _parse_head(text: str) -> HeadSpec:
    if text == "retina":
        return RetinaHeadSpec()
    (width,) = _match(r"fc-w(\d{1,5})", text, "head", "fc-w256, or retina")
    return FcHeadSpec(width=int(width))


def _match(pattern: str, text: str, what: str, example: str) -> tuple[str, ...]:
    # re.ASCII: \d must not accept the digits of other scripts, which int() would read.
    match = re.fullmatch(pattern, text, re.ASCII)
    if match is None:
        raise ArchError(f"{what} {text!r} cannot be read", fix=f"write it like {example}")
    return match.groups()
