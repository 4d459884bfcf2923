"""Detector specs: frozen data that cannot describe an impossible detector.

A new kind of module is a new dataclass in the union of its field (``HeadSpec``, ...). So a module has only the numbers
that it uses. A backbone that can be written in more than one way is held in one of them; see :func:`one_name`. So two
different specs are two different detectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from smnas_optuna.arch.classics import CLASSIC_STEM, CLASSICS
from smnas_optuna.arch.mobilenet import CLASSIC_DEPTHS, CLASSIC_EXPANSION, EXPANSIONS, same_width
from smnas_optuna.errors import ArchError, quote

MOBILENET = "mobilenet_v2"
BACKBONE_FAMILIES = (*CLASSICS, MOBILENET)
BLOCKS = ("basicblock", "bottleneck", "xbottleneck", "inverted")
STEMS = ("conv3", CLASSIC_STEM)
NUM_STAGES, NUM_DOUBLINGS = 4, 3
MIN_BLOCKS, MAX_BLOCKS = 5, 35
"""Constraints on a block string of the paper's stage 2: stages, blocks that double the planes, and total blocks."""
MIN_LEVELS = (2, 3, 4)
MAX_LEVELS = (5, 6, 7)
BACKBONE_TOP = 5
"""The backbone's last level. Pyramid levels above it are extra levels."""
EXTRA_LEVELS = ("pool", "conv_c5", "conv_p5")
CASCADE_STAGES = (2, 3, 4)

MIN_EDGE, MAX_EDGE = 32, 4096
MIN_WIDTH, MAX_WIDTH = 4, 4096


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class InputSize:
    """Size in pixels that an image is resized to fit inside, aspect ratio kept, for both landscape and portrait."""

    long: int
    short: int

    def __post_init__(self) -> None:
        if not MIN_EDGE <= self.short <= self.long <= MAX_EDGE:
            raise ArchError(
                f"input size {self}: {MIN_EDGE} <= short <= long <= {MAX_EDGE} must hold",
                fix="write the long edge first, in pixels, such as 320x240",
            )

    def __str__(self) -> str:
        return f"{self.long}x{self.short}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec:
    """A classic network with GroupNorm and Weight Standardization.

    Attributes:
        family: One of ``BACKBONE_FAMILIES``.
        width: Base width; 64 is the classic network. ResNets: channels of the stem and planes of the first stage; each
            later stage doubles the planes. ResNeXts: the same, with width / 2 groups. MobileNetV2: all channels are
            scaled by width / 64.
    """

    family: str
    width: int

    def __post_init__(self) -> None:
        _check_choice("backbone", self.family, BACKBONE_FAMILIES)
        _check_width("backbone", self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedBackboneSpec:
    """A network of one kind of block, written out block by block as in the paper's stage 2.

    With ResNet's stem and the blocks of a ResNet or ResNeXt it is that network, and a detector holds its
    :class:`BackboneSpec`; see :func:`one_name`.

    Attributes:
        block: One of ``BLOCKS``: the blocks of ResNet-18, ResNet-50, ResNeXt and MobileNetV2.
        width: Base channels: channels of the stem and planes of the first blocks.
        stages: Four strings, for strides 4, 8, 16 and 32, with a ``1`` for each block that keeps the planes and a ``2``
            for each that doubles them. There are 3 doublings, and 5 to 35 blocks.
        stem: One of ``STEMS``: the paper's two 3x3 convolutions of stride 2, or ResNet's 7x7 convolution and max-pool.
            At small base widths the paper's stem, whose first convolution has half of the base channels, learns far
            less (``docs/search.md``).
    """

    block: str
    width: int
    stages: tuple[str, ...]
    stem: str = "conv3"

    def __post_init__(self) -> None:
        _check_choice("block", self.block, BLOCKS)
        _check_choice("stem", self.stem, STEMS)
        _check_width("backbone", self.width)
        blocks = "".join(self.stages)
        if not (
            len(self.stages) == NUM_STAGES
            and all(self.stages)
            and set(blocks) <= {"1", "2"}
            and blocks.count("2") == NUM_DOUBLINGS
            and MIN_BLOCKS <= len(blocks) <= MAX_BLOCKS
        ):
            raise ArchError(
                f"backbone: {quote('-'.join(self.stages))} is not a valid string of stages",
                fix=f"write {NUM_STAGES} stages between hyphens, a 1 for each block and a 2 for each that doubles the "
                f"planes, with {NUM_DOUBLINGS} doublings and {MIN_BLOCKS} to {MAX_BLOCKS} blocks, such as 11-21-21-21",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MobileNetSpec:
    """MobileNetV2 with other depths or expansions; its channels and strides are the classic ones (Sandler et al. 2018).

    With the classic depths and expansions it is the classic network, and a detector holds its :class:`BackboneSpec`;
    see :func:`one_name`.

    Attributes:
        width: Base width, as in :class:`BackboneSpec`: all channels are scaled by width / 64.
        depths: Number of blocks in each of the six rows behind the first block, at least 1 in each, and at most 35
            together. The classic ones are 2, 3, 4, 3, 3, 1.
        expansions: Expansion of the blocks of each row, 3 or 6; the classic one is 6.
    """

    width: int
    depths: tuple[int, ...]
    expansions: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_width("backbone", self.width)
        rows = len(CLASSIC_DEPTHS)
        if not (
            len(self.depths) == len(self.expansions) == rows
            and min(self.depths) >= 1
            and sum(self.depths) <= MAX_BLOCKS
            and set(self.expansions) <= set(EXPANSIONS)
        ):
            text = "-".join(
                f"{depth}x{expansion}" for depth, expansion in zip(self.depths, self.expansions, strict=False)
            )
            raise ArchError(
                f"backbone: {quote(text)} are not valid rows of {MOBILENET}",
                fix=f"write blocks x expansion for each of {rows} rows between hyphens, with expansion "
                f"{' or '.join(map(str, EXPANSIONS))} and at most {MAX_BLOCKS} blocks together, such as "
                "2x6-3x6-4x6-3x6-3x6-1x6",
            )


AnyBackboneSpec = BackboneSpec | EncodedBackboneSpec | MobileNetSpec
WrittenOutSpec = EncodedBackboneSpec | MobileNetSpec


def written_out(backbone: AnyBackboneSpec) -> WrittenOutSpec:
    """Return the same network written out: ResNets and ResNeXts block by block, MobileNetV2 row by row."""
    if not isinstance(backbone, BackboneSpec):
        return backbone
    if backbone.family == MOBILENET:
        expansions = (CLASSIC_EXPANSION,) * len(CLASSIC_DEPTHS)
        return MobileNetSpec(width=backbone.width, depths=CLASSIC_DEPTHS, expansions=expansions)
    classic = CLASSICS[backbone.family]
    return EncodedBackboneSpec(block=classic.block, width=backbone.width, stages=classic.stages, stem=CLASSIC_STEM)


def one_name(backbone: AnyBackboneSpec) -> AnyBackboneSpec:
    """Return the one spec, of all that build this network, by which detectors and their strings name it.

    A written-out classic network is the classic one. Base widths at which rounding gives MobileNetV2 the same channels
    are the smallest of them.
    """
    if isinstance(backbone, EncodedBackboneSpec):
        if backbone.stem != CLASSIC_STEM:
            return backbone
        families = (name for name, it in CLASSICS.items() if (it.block, it.stages) == (backbone.block, backbone.stages))
        family = next(families, None)
        return backbone if family is None else BackboneSpec(family=family, width=backbone.width)
    if isinstance(backbone, BackboneSpec) and backbone.family != MOBILENET:
        return backbone
    backbone = replace(backbone, width=same_width(backbone.width, MIN_WIDTH))
    classic = BackboneSpec(family=MOBILENET, width=backbone.width)
    return classic if written_out(classic) == backbone else backbone


@dataclass(frozen=True, kw_only=True, slots=True)
class NeckSpec:
    """Feature pyramid over p<min_level> .. p<max_level>; level ``l`` has stride ``2**l``.

    Attributes:
        min_level: One of ``MIN_LEVELS``.
        max_level: One of ``MAX_LEVELS``.
        channels: Channels of every level.
        extra: Source of the levels above p5, one of ``EXTRA_LEVELS``; None exactly if there are none. ``pool``: each is
            max-pooled from the level below. ``conv_c5``, ``conv_p5``: p6 is a 3x3 convolution of stride 2 on the
            backbone's c5 or on p5, and p7 is one on p6.
    """

    min_level: int
    max_level: int
    channels: int
    extra: str | None = None

    def __post_init__(self) -> None:
        _check_choice("the pyramid's first level", self.min_level, MIN_LEVELS)
        _check_choice("the pyramid's last level", self.max_level, MAX_LEVELS)
        _check_width("neck", self.channels)
        if self.max_level == BACKBONE_TOP:
            if self.extra is not None:
                raise ArchError(
                    f"neck: a pyramid up to p{self.max_level} has no extra levels, but `extra` is {self.extra!r}",
                    fix="leave `extra` out, or let the pyramid end at p6 or p7",
                )
        elif self.extra is None:
            raise ArchError(
                f"neck: a pyramid up to p{self.max_level} must say how its levels above p{BACKBONE_TOP} are made",
                fix=f"set `extra` to one of {', '.join(EXTRA_LEVELS)}, or let the pyramid end at p{BACKBONE_TOP}",
            )
        else:
            _check_choice("the pyramid's extra levels", self.extra, EXTRA_LEVELS)


@dataclass(frozen=True, kw_only=True, slots=True)
class RpnSpec:
    """Region proposal network: 3x3 convolution of its input's width, objectness and boxes of 3 anchors per location."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedRpnSpec:
    """RPN with Guided Anchoring (Wang et al. 2019): it predicts the locations and the shapes of the anchors."""


AnyRpnSpec = RpnSpec | GuidedRpnSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class FcHeadSpec:
    """Two-stage head: RoI features, two fully connected layers of ``width``, class scores and boxes per class.

    Attributes:
        width: None exactly if the detector has no neck; the last backbone stage then replaces these layers.
    """

    width: int | None

    def __post_init__(self) -> None:
        _check_head_width(self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeHeadSpec:
    """Cascade of two-stage heads (Cai and Vasconcelos 2018): each stage refines the boxes of the previous one.

    Attributes:
        stages: Number of stages, one of ``CASCADE_STAGES``.
        width: Width of every stage, as in :class:`FcHeadSpec`.
    """

    stages: int
    width: int | None

    def __post_init__(self) -> None:
        _check_choice("the cascade's number of stages", self.stages, CASCADE_STAGES)
        _check_head_width(self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetinaHeadSpec:
    """One-stage head: four 3x3 convolutions of the neck's width each for classes and boxes, 9 anchors per location."""


HeadSpec = RetinaHeadSpec | FcHeadSpec | CascadeHeadSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorSpec:
    """A complete detector. One-stage: a pyramid, no RPN and a RetinaNet head. Two-stage: an RPN and an RoI head.

    Attributes:
        input_size: Size that images are resized to.
        backbone: Network that maps an image to features at strides 4, 8, 16 and 32; held as :func:`one_name` says.
        neck: Feature pyramid. None is the "C4" of the original Faster R-CNN: the RPN works on stride 16, and the last
            backbone stage is applied to each RoI.
        rpn: Region proposal network; None exactly for a one-stage detector.
        head: Head that classifies objects and refines their boxes.
    """

    input_size: InputSize
    backbone: AnyBackboneSpec
    neck: NeckSpec | None
    rpn: AnyRpnSpec | None
    head: HeadSpec

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", one_name(self.backbone))  # frozen: the only way, and only here
        head = self.head
        one_stage = isinstance(head, RetinaHeadSpec)
        if one_stage != (self.rpn is None):
            raise ArchError(
                "a RetinaNet head takes no RPN" if one_stage else "an RoI head needs proposals, but there is no RPN",
                fix="take `none.retina` (one-stage), or an RPN and an RoI head, such as `rpn.fc-w1024` (two-stage)",
            )
        if isinstance(head, RetinaHeadSpec):
            if self.neck is None:
                raise ArchError(
                    "a RetinaNet head needs a pyramid, but there is none",
                    fix="take a pyramid, such as `fpn-p3-p7-c256-convp5`, or an RPN and an RoI head, such as `rpn.fc`",
                )
        elif self.neck is None and head.width is not None:
            raise ArchError(
                f"an RoI head without a pyramid takes no width, but it is {head.width}",
                fix="leave it out, as in `c4.rpn.fc`: the last backbone stage replaces the fully connected layers",
            )
        elif self.neck is not None and head.width is None:
            raise ArchError(
                "an RoI head behind a pyramid needs a width, but there is none",
                fix="write the channels of its fully connected layers, such as `fc-w1024` or `cascade3-w1024`",
            )


def _check_choice(what: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ArchError(f"{what}: {quote(value)} is not known", fix=f"take one of {', '.join(map(str, choices))}")


def _check_width(what: str, value: int) -> None:
    if not MIN_WIDTH <= value <= MAX_WIDTH:
        raise ArchError(
            f"{what}: a width of {quote(value)} channels is not possible",
            fix=f"take {MIN_WIDTH} .. {MAX_WIDTH} channels",
        )


def _check_head_width(width: int | None) -> None:
    if width is not None:
        _check_width("head", width)
