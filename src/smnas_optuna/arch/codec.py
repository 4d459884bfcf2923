"""Encoding and decoding of canonical architecture strings: five modules separated by dots.

Names like ``mobilenet_v2`` need no escape, as only dots and hyphens separate.
A string is safe in a shell and as a folder name. ``128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256`` is an input of
128 x 96 px, ResNet-18 of base width 16, an FPN over p2..p5 with 64 channels, an RPN and a 2-FC head of width 256.
Other modules:

- backbone: ``basicblock-w56-121-211-1111-12111`` is written out block by block. It has base channels 56, halves the
  resolution at each hyphen, and has a ``2`` for each block that doubles the planes.
  ``basicblock-w64-conv7-11-2111-2-21`` has the stem of ResNet. ``mobilenet_v2-w64-2x6-3x6-4x3-3x6-3x6-1x6`` is
  MobileNetV2 row by row, as number of blocks x expansion, here with an expansion of 3 in one row;
- neck: ``fpn-p2-p6-c64`` max-pools p6; ``fpn-p2-p6-c64-convc5`` and ``-convp5`` compute it from c5 or p5 by a
  convolution; ``c4`` has no pyramid;
- RPN: ``ga`` uses Guided Anchoring; ``none`` belongs to the one-stage head;
- head: ``cascade3-w256`` is a cascade of 3 stages. Behind ``c4``, ``fc`` and ``cascade3`` have no width. ``retina`` is
  one-stage.

Some backbones can be written in more than one way: ``basicblock-w64-conv7-11-21-21-21`` is ``resnet18-w64``. All ways
are read, and one of them is written; :func:`smnas_optuna.arch.spec.one_name` says which.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from functools import lru_cache

from smnas_optuna.arch.mobilenet import same_width
from smnas_optuna.arch.spec import (
    BACKBONE_TOP,
    BLOCKS,
    MAX_WIDTH,
    MIN_WIDTH,
    MOBILENET,
    STEMS,
    AnyBackboneSpec,
    AnyRpnSpec,
    BackboneSpec,
    CascadeHeadSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    HeadSpec,
    InputSize,
    MobileNetSpec,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
    written_out,
)
from smnas_optuna.errors import ArchError, shortened

EXAMPLE = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"

NO_PYRAMID = "c4"
EXTRA_SUFFIXES = {"pool": "", "conv_c5": "-convc5", "conv_p5": "-convp5"}
EXTRA_WORDS = {"pool": "max-pooled", "conv_c5": "convolved from c5", "conv_p5": "convolved from p5"}
_LONGEST_QUOTE = 200
"""Characters of a string in a message; the longest canonical one has 114."""
RPNS: dict[str, AnyRpnSpec | None] = {"none": None, "rpn": RpnSpec(), "ga": GuidedRpnSpec()}


def encode(spec: DetectorSpec) -> str:
    """Return the canonical string of ``spec``; it is unique."""
    return _spell(spec, spec.backbone)


def spellings(spec: DetectorSpec) -> list[str]:
    """Return all strings that :func:`decode` reads as ``spec``, each once, the canonical one first."""
    backbone = spec.backbone
    widths = [backbone.width]
    if isinstance(backbone, MobileNetSpec) or (isinstance(backbone, BackboneSpec) and backbone.family == MOBILENET):
        wider = range(backbone.width + 1, MAX_WIDTH + 1)
        widths += itertools.takewhile(lambda width: same_width(width, MIN_WIDTH) == backbone.width, wider)
    wide = [replace(backbone, width=width) for width in widths]
    return list(dict.fromkeys(_spell(spec, each) for each in [*wide, *map(written_out, wide)]))


@lru_cache(maxsize=65536)
def canonical(arch: str) -> str:
    """Return the canonical string of the architecture that is written as ``arch``; ``arch`` itself if it names none.

    For strings that were stored: earlier versions stored other spellings.
    """
    try:
        return encode(decode(arch))
    except ArchError:
        return arch


def decode(arch: str) -> DetectorSpec:
    """Return the spec written as ``arch``, in the canonical or another spelling; see :func:`spellings`.

    Raises:
        ArchError: If ``arch`` is not written as one of them, or names an impossible detector.
    """
    modules = arch.split(".")
    if len(modules) != 5:
        raise ArchError(
            f"architecture {_quote(arch)}: {len(modules):,} modules instead of 5",
            fix=f"write input size, backbone, neck, RPN and head between dots, such as {EXAMPLE}",
        )
    size, text, neck, rpn, head = modules
    try:
        input_size, backbone = parse_input_size(size), _parse_backbone(text)
        spec = DetectorSpec(
            input_size=input_size,
            backbone=backbone,
            neck=_parse_neck(neck),
            rpn=_parse_rpn(rpn),
            head=_parse_head(head),
        )
    except ArchError as error:
        raise ArchError(f"architecture {_quote(arch)}: {error.message}", fix=error.fix) from None
    if _spell(spec, backbone) != arch:
        raise ArchError(f"architecture {_quote(arch)} is not written canonically", fix=f"write {encode(spec)}")
    return spec


def parse_input_size(text: str) -> InputSize:
    """Return the input size written as ``<long>x<short>``.

    Raises:
        ArchError: If the format is wrong, or the size is out of range.
    """
    long, short = _match(r"(\d{1,5})x(\d{1,5})", text, "input size", "320x240")
    return InputSize(long=int(long), short=int(short))


def rpn_kind(rpn: AnyRpnSpec | None) -> str:
    """Return the name of ``rpn``: a key of ``RPNS``."""
    return next(kind for kind, known in RPNS.items() if known == rpn)


def head_kind(head: HeadSpec) -> str:
    """Return the name of ``head`` without its width: ``retina``, ``fc``, or ``cascade`` with its number of stages."""
    match head:
        case RetinaHeadSpec():
            return "retina"
        case FcHeadSpec():
            return "fc"
        case CascadeHeadSpec(stages=stages):
            return f"cascade{stages}"


def build_head(kind: str, width: int | None) -> HeadSpec:
    """Return the head named ``kind``; see :func:`head_kind`. A RetinaNet head ignores ``width``.

    Raises:
        ArchError: If the number of cascade stages or the width is out of range.
    """
    if kind == "retina":
        return RetinaHeadSpec()
    if kind == "fc":
        return FcHeadSpec(width=width)
    return CascadeHeadSpec(stages=int(kind.removeprefix("cascade")), width=width)


def describe(spec: DetectorSpec) -> str:
    """Return a readable description of the architecture."""
    backbone = spec.backbone
    if isinstance(backbone, EncodedBackboneSpec):
        stem = "" if backbone.stem == STEMS[0] else "ResNet's stem, "
        name = f"{len(''.join(backbone.stages))} blocks ({stem}{backbone.block} {'-'.join(backbone.stages)})"
    elif isinstance(backbone, MobileNetSpec):
        name = f"{sum(backbone.depths)} blocks ({MOBILENET} {_rows(backbone)}, blocks x expansion)"
    else:
        name = backbone.family
    return (
        f"input {spec.input_size} px, {name} with base width {backbone.width}, "
        f"{_describe_neck(spec.neck)}, {_describe_head(spec)}"
    )


def _describe_neck(neck: NeckSpec | None) -> str:
    if neck is None:
        return "no pyramid (C4)"
    words = f"FPN p{neck.min_level}..p{neck.max_level} with {neck.channels} channels"
    if neck.extra is None:
        return words
    extra = " and ".join(f"p{level}" for level in range(BACKBONE_TOP + 1, neck.max_level + 1))
    return f"{words}, {extra} {EXTRA_WORDS[neck.extra]}"


def _describe_head(spec: DetectorSpec) -> str:
    head = spec.head
    if isinstance(head, RetinaHeadSpec):
        return "RetinaNet head (one-stage)"
    rpn = "RPN with Guided Anchoring" if isinstance(spec.rpn, GuidedRpnSpec) else "RPN"
    stages = f"a cascade of {head.stages} stages, each " if isinstance(head, CascadeHeadSpec) else ""
    what = "the last backbone stage as RoI head" if head.width is None else f"a 2-FC head of width {head.width}"
    return f"{rpn} and {stages}{what}"


def _spell(spec: DetectorSpec, backbone: AnyBackboneSpec) -> str:
    """Return the string of ``spec``, with its backbone written as ``backbone``."""
    modules = (
        str(spec.input_size),
        _encode_backbone(backbone),
        _encode_neck(spec.neck),
        rpn_kind(spec.rpn),
        _encode_head(spec.head),
    )
    return ".".join(modules)


def _rows(backbone: MobileNetSpec) -> str:
    rows = zip(backbone.depths, backbone.expansions, strict=True)
    return "-".join(f"{depth}x{expansion}" for depth, expansion in rows)


def _encode_backbone(backbone: AnyBackboneSpec) -> str:
    if isinstance(backbone, EncodedBackboneSpec):
        stem = () if backbone.stem == STEMS[0] else (backbone.stem,)
        return "-".join((backbone.block, f"w{backbone.width}", *stem, *backbone.stages))
    if isinstance(backbone, MobileNetSpec):
        return f"{MOBILENET}-w{backbone.width}-{_rows(backbone)}"
    return f"{backbone.family}-w{backbone.width}"


def _parse_backbone(text: str) -> AnyBackboneSpec:
    if text.partition("-")[0] in BLOCKS:
        pattern = r"([a-z]+)-w(\d{1,5})(-conv7|)-([12-]+)"
        block, width, stem, stages = _match(pattern, text, "backbone", "basicblock-w64-11-21-21-21")
        return EncodedBackboneSpec(
            block=block, width=int(width), stages=tuple(stages.split("-")), stem=stem.removeprefix("-") or STEMS[0]
        )
    if text.startswith(f"{MOBILENET}-") and text.count("-") > 1:
        pattern, example = rf"{MOBILENET}-w(\d{{1,5}})((?:-\d{{1,2}}x\d)+)", f"{MOBILENET}-w64-2x6-3x6-4x6-3x6-3x6-1x6"
        width, rows = _match(pattern, text, "backbone", example)
        numbers = [tuple(map(int, row.split("x"))) for row in rows.removeprefix("-").split("-")]
        depths, expansions = zip(*numbers, strict=True)
        return MobileNetSpec(width=int(width), depths=depths, expansions=expansions)
    family, width = _match(r"([a-z0-9_]+)-w(\d{1,5})", text, "backbone", "resnet18-w16")
    return BackboneSpec(family=family, width=int(width))


def _encode_neck(neck: NeckSpec | None) -> str:
    if neck is None:
        return NO_PYRAMID
    suffix = "" if neck.extra is None else EXTRA_SUFFIXES[neck.extra]
    return f"fpn-p{neck.min_level}-p{neck.max_level}-c{neck.channels}{suffix}"


def _parse_neck(text: str) -> NeckSpec | None:
    if text == NO_PYRAMID:
        return None
    suffixes = "|".join(EXTRA_SUFFIXES.values())
    pattern = rf"fpn-p(\d)-p(\d)-c(\d{{1,5}})({suffixes})"
    lowest, highest, channels, suffix = _match(pattern, text, "neck", "fpn-p2-p5-c64, fpn-p2-p6-c64-convc5, or c4")
    # No suffix means `pool` if there are levels above p5, and None if there are none.
    extra = next(extra for extra, known in EXTRA_SUFFIXES.items() if known == suffix)
    return NeckSpec(
        min_level=int(lowest),
        max_level=int(highest),
        channels=int(channels),
        extra=extra if suffix or int(highest) > BACKBONE_TOP else None,
    )


def _parse_rpn(text: str) -> AnyRpnSpec | None:
    (kind,) = _match(f"({'|'.join(RPNS)})", text, "RPN", "rpn, ga, or none")
    return RPNS[kind]


def _encode_head(head: HeadSpec) -> str:
    kind = head_kind(head)
    return kind if isinstance(head, RetinaHeadSpec) or head.width is None else f"{kind}-w{head.width}"


def _parse_head(text: str) -> HeadSpec:
    if text == "retina":
        return RetinaHeadSpec()
    kind, _, width = _match(r"(fc|cascade\d)(-w(\d{1,5})|)", text, "head", "fc-w256, cascade3-w256, or retina")
    return build_head(kind, int(width) if width else None)


def _match(pattern: str, text: str, what: str, example: str) -> tuple[str, ...]:
    # re.ASCII: \d must not accept the digits of other scripts, because int() would read them.
    match = re.fullmatch(pattern, text, re.ASCII)
    if match is None:
        raise ArchError(f"{what} {_quote(text)} cannot be read", fix=f"write it like {example}")
    return match.groups()


def _quote(text: str) -> str:
    return shortened(repr(text), _LONGEST_QUOTE)
