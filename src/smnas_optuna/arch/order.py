"""Which detectors are parts of others: the order that partial-order pruning goes by (Li et al., CVPR 2019)."""

from __future__ import annotations

from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.spec import (
    AnyBackboneSpec,
    BackboneSpec,
    CascadeHeadSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    NeckSpec,
    RetinaHeadSpec,
)


def contains(big: DetectorSpec, small: DetectorSpec) -> bool:
    """Whether ``big`` has all that ``small`` has: of the same kinds, no stage shallower, nothing narrower.

    The kinds are those of block, pyramid levels, RPN and head; the input is no smaller. Every detector contains itself.
    A network written out block by block has another stem than a classic one, and never contains it, nor the other way.
    """
    return (
        big.rpn == small.rpn
        and big.input_size.long >= small.input_size.long
        and big.input_size.short >= small.input_size.short
        and _head_contains(big, small)
        and _neck_contains(big.neck, small.neck)
        and _backbone_contains(big.backbone, small.backbone)
    )


def _head_contains(big: DetectorSpec, small: DetectorSpec) -> bool:
    mine, its = big.head, small.head
    if type(mine) is not type(its):
        return False
    if isinstance(mine, CascadeHeadSpec) and isinstance(its, CascadeHeadSpec) and mine.stages != its.stages:
        return False
    if isinstance(mine, RetinaHeadSpec) or isinstance(its, RetinaHeadSpec):
        return True
    return (mine.width or 0) >= (its.width or 0)


def _neck_contains(big: NeckSpec | None, small: NeckSpec | None) -> bool:
    if big is None or small is None:
        return big is small
    kinds = [(neck.min_level, neck.max_level, neck.extra) for neck in (big, small)]
    return kinds[0] == kinds[1] and big.channels >= small.channels


def _backbone_contains(big: AnyBackboneSpec, small: AnyBackboneSpec) -> bool:
    if isinstance(big, BackboneSpec) and isinstance(small, BackboneSpec):
        mine, its = CLASSICS[big.family], CLASSICS[small.family]
        deeper = all(depth >= other for depth, other in zip(mine.depths, its.depths, strict=True))
        return mine.block == its.block and big.width >= small.width and deeper
    if isinstance(big, EncodedBackboneSpec) and isinstance(small, EncodedBackboneSpec):
        stages = zip(stage_planes(big), stage_planes(small), strict=True)
        return big.block == small.block and big.width >= small.width and all(_covers(*pair) for pair in stages)
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
