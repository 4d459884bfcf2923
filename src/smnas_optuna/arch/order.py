"""Partial order of detectors by containment, used by partial-order pruning (Li et al., CVPR 2019)."""

from __future__ import annotations

from smnas_optuna.arch.codec import head_kind
from smnas_optuna.arch.spec import (
    MOBILENET,
    AnyBackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    HeadSpec,
    MobileNetSpec,
    NeckSpec,
    RetinaHeadSpec,
    written_out,
)


def kinds_of(spec: DetectorSpec) -> tuple[object, ...]:
    """Return the kinds of modules in ``spec`` without their sizes: kind of block, pyramid levels, RPN and head."""
    backbone, neck = written_out(spec.backbone), spec.neck
    block = MOBILENET if isinstance(backbone, MobileNetSpec) else backbone.block
    levels = None if neck is None else (neck.min_level, neck.max_level, neck.extra)
    return block, levels, spec.rpn, head_kind(spec.head)


def contains(big: DetectorSpec, small: DetectorSpec) -> bool:
    """Return True if ``big`` has the same kinds of modules as ``small``, and no stage is shallower or narrower.

    The input must be no smaller, the other widths no narrower, the expansions no lower, and the stem the same. Every
    detector contains itself.
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
    """Return True if ``big`` contains ``small``; both have the same kind of block."""
    big, small = written_out(big), written_out(small)
    if big.width < small.width:
        return False
    if isinstance(big, EncodedBackboneSpec) and isinstance(small, EncodedBackboneSpec):
        stages = zip(stage_planes(big), stage_planes(small), strict=True)
        return big.stem == small.stem and all(_covers(*pair) for pair in stages)
    if isinstance(big, MobileNetSpec) and isinstance(small, MobileNetSpec):
        mine, its = (*big.depths, *big.expansions), (*small.depths, *small.expansions)
        return all(more >= less for more, less in zip(mine, its, strict=True))
    return False


def stage_planes(backbone: EncodedBackboneSpec) -> list[list[int]]:
    """Return the planes of every block, stage by stage."""
    planes, stages = backbone.width, list[list[int]]()
    for stage in backbone.stages:
        stages.append([])
        for block in stage:
            planes *= int(block)
            stages[-1].append(planes)
    return stages


def _covers(big: list[int], small: list[int]) -> bool:
    """Return True if the blocks of ``small`` can be matched to distinct blocks of ``big``, in order and none wider.

    Widths only grow from block to block. So if any matching exists, the one to the last blocks, the widest, is one.
    """
    return len(big) >= len(small) and all(
        mine >= its for mine, its in zip(reversed(big), reversed(small), strict=False)
    )
