"""Which detectors are parts of others: the order that partial-order pruning goes by (Li et al., CVPR 2019)."""

from __future__ import annotations

from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.codec import head_kind
from smnas_optuna.arch.spec import (
    AnyBackboneSpec,
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    HeadSpec,
    NeckSpec,
    RetinaHeadSpec,
)


def kinds_of(spec: DetectorSpec) -> tuple[object, ...]:
    """What modules ``spec`` is made of, apart from their sizes: kind of block, pyramid levels, RPN and head."""
    backbone, neck = spec.backbone, spec.neck
    block = backbone.block if isinstance(backbone, EncodedBackboneSpec) else CLASSICS[backbone.family].block
    levels = None if neck is None else (neck.min_level, neck.max_level, neck.extra)
    return block, levels, spec.rpn, head_kind(spec.head)


def contains(big: DetectorSpec, small: DetectorSpec) -> bool:
    """Whether ``big`` has all that ``small`` has: of the same kinds, no stage shallower, nothing narrower.

    The input is no smaller, either, and the stem the same. Every detector contains itself. Of a classic network and one
    that is written out block by block neither contains the other.
    """
    return (
        kinds_of(big) == kinds_of(small)
        and big.input_size.long >= small.input_size.long
        and big.input_size.short >= small.input_size.short
        and _channels(big.neck) >= _channels(small.neck)
        and _width(big.head) >= _width(small.head)
        and _backbone_contains(big.backbone, small.backbone)
    )


def _channels(neck: NeckSpec | None) -> int:
    return 0 if neck is None else neck.channels


def _width(head: HeadSpec) -> int:
    return 0 if isinstance(head, RetinaHeadSpec) else head.width or 0


def _backbone_contains(big: AnyBackboneSpec, small: AnyBackboneSpec) -> bool:
    """Of two backbones of one kind of block."""
    if isinstance(big, BackboneSpec) and isinstance(small, BackboneSpec):
        depths = zip(CLASSICS[big.family].depths, CLASSICS[small.family].depths, strict=True)
        return big.width >= small.width and all(mine >= its for mine, its in depths)
    if isinstance(big, EncodedBackboneSpec) and isinstance(small, EncodedBackboneSpec):
        stages = zip(stage_planes(big), stage_planes(small), strict=True)
        return big.stem == small.stem and big.width >= small.width and all(_covers(*pair) for pair in stages)
    return False


def stage_planes(backbone: EncodedBackboneSpec) -> list[list[int]]:
    """Planes of every block, stage by stage."""
    planes, stages = backbone.width, list[list[int]]()
    for stage in backbone.stages:
        stages.append([])
        for block in stage:
            planes *= int(block)
            stages[-1].append(planes)
    return stages


def _covers(big: list[int], small: list[int]) -> bool:
    """Whether each block of ``small`` has one of its own in ``big``, in the same order and as wide; widths only grow.

    If any choice of blocks will do, the last ones do, which are the widest.
    """
    return len(big) >= len(small) and all(
        mine >= its for mine, its in zip(reversed(big), reversed(small), strict=False)
    )
