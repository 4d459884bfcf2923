"""Space of the structural search (stage 1): combinations of input size, backbone, neck, RPN and head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smnas_optuna.arch import BackboneSpec, DetectorSpec, NeckSpec, RetinaHeadSpec, decode, encode
from smnas_optuna.arch.codec import NO_PYRAMID, RPNS, build_head, head_kind, parse_input_size, rpn_kind
from smnas_optuna.arch.spec import BACKBONE_TOP, AnyBackboneSpec, one_name
from smnas_optuna.config import STUDY_FILE, StructuralSpace, StudySettings
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space.space import Gene, Genome, SearchSpace, listed

PYRAMID, RETINA = "fpn", "retina"


class StructuralSearchSpace(SearchSpace):
    """Combinations of modules.

    Genes that other genes switch off, such as the width of an RoI head in a one-stage detector, do not reach the spec.
    So they create no second name for the same detector. See :func:`express`.
    """

    def __init__(self, settings: StructuralSpace) -> None:
        self.choices = gene_choices(settings)
        self.size = count_architectures(settings)
        self._settings = settings

    def in_words(self) -> str:
        """See :class:`SearchSpace`."""
        return f"of {listed(self.choices['backbone.family'])} at {listed(self.choices['input_size'])}"

    def express(self, genome: Genome) -> DetectorSpec:
        """See :func:`express`."""
        return express(genome)

    def genome(self, spec: DetectorSpec) -> Genome:
        """See :class:`SearchSpace`; genes that are switched off have their first choice."""
        backbone = spec.backbone
        if not isinstance(backbone, BackboneSpec):
            raise ConfigError(
                f"{encode(spec)} is not in [space.structural]: its backbone is written out",
                fix=f"take one of {listed(self.choices['backbone.family'])}",
            )
        for width in self._settings.backbone_widths:  # several widths may make one network
            if one_name(BackboneSpec(family=backbone.family, width=width)) == backbone:
                backbone = BackboneSpec(family=backbone.family, width=width)
                break
        active = _active_genes(spec, backbone)
        genome: dict[str, Gene] = {}
        for name, choices in self.choices.items():
            gene = genome[name] = active.get(name, choices[0])
            if gene not in choices:
                raise ConfigError(
                    f"{encode(spec)} is not in [space.structural]: {name} {gene!r} is none of its choices",
                    fix=f"add it to the space, or take one of {listed(choices)}",
                )
        return genome

    def mutate(self, genome: Genome, random: np.random.Generator) -> Genome:
        """Move one or two genes to a neighbouring value, none of them switched off."""
        before, mutated = self.express(genome), genome
        while self.size > 1 and self.express(mutated) == before:  # repeated only between widths that make one network
            assert isinstance(before.backbone, BackboneSpec)
            mutable = [name for name in _active_genes(before, before.backbone) if len(self.choices[name]) > 1]
            count = min(len(mutable), int(random.integers(1, 3)))
            for name in random.choice(mutable, count, replace=False):
                mutated = self.step(mutated, name, random)
        return mutated

    def draw(self, random: np.random.Generator) -> Genome:
        """Draw a random architecture; all are equally likely, and genes that are switched off have any value."""
        space, genome = self._settings, dict(super().draw(random))
        families = _distinct_backbones(space)
        genome["backbone.family"], genome["backbone.width"] = families[int(random.integers(len(families)))]
        groups = _groups(space)
        place = int(random.integers(sum(group.size for group in groups)))
        for group in groups:
            if place < group.size:
                break
            place -= group.size
        genome["head.kind"] = group.heads[int(random.integers(len(group.heads)))]
        genome["neck.kind"] = group.neck or genome["neck.kind"]
        levels = _levels(space)
        genome["neck.max_level"], extra = levels[int(random.integers(len(levels)))]
        return genome if extra is None else {**genome, "neck.extra": extra}


def baselines_of(settings: StudySettings) -> list[DetectorSpec]:
    """Return the baselines of a study file, in its order.

    Raises:
        ConfigError: If one of them is not in the space.
    """
    space = StructuralSearchSpace(settings.space.structural)
    baselines = [decode(arch) for arch in settings.search.baselines]
    for spec in baselines:
        try:
            space.genome(spec)
        except ConfigError as error:
            raise ConfigError(f"{STUDY_FILE}: [search] baselines: {error.message}", fix=error.fix) from None
    return baselines


def count_architectures(space: StructuralSpace) -> int:
    """Return the number of distinct architectures in ``space``; genomes of the same architecture count once."""
    modules = sum(group.size for group in _groups(space))
    return len(space.input_sizes) * len(_distinct_backbones(space)) * modules


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Combinations of neck, RPN and head that have the same genes switched off.

    Attributes:
        heads: Kinds of their heads.
        neck: Kind of their neck; None if the gene is switched off.
        size: Their number.
    """

    heads: tuple[str, ...]
    neck: str | None
    size: int


def _groups(space: StructuralSpace) -> list[_Group]:
    """Return the one-stage combinations, and those with an RoI head behind a pyramid and without one."""
    pyramids = len(space.neck_min_levels) * len(_levels(space)) * len(space.neck_channels)
    roi_heads = tuple(kind for kind in space.heads if kind != RETINA)
    groups = [_Group(heads=(RETINA,), neck=None, size=pyramids)] if RETINA in space.heads else []
    for neck, behind in ((PYRAMID, pyramids * len(space.head_widths)), (NO_PYRAMID, 1)):
        if neck in space.necks and roi_heads:
            groups.append(_Group(heads=roi_heads, neck=neck, size=len(roi_heads) * len(space.rpns) * behind))
    return groups


def _levels(space: StructuralSpace) -> list[tuple[int, str | None]]:
    """Return the last level of each pyramid with the source of its extra levels; None without extra levels."""
    return [
        (level, extra)
        for level in space.neck_max_levels
        for extra in (space.neck_extras if level > BACKBONE_TOP else (None,))
    ]


def _distinct_backbones(space: StructuralSpace) -> list[tuple[str, int]]:
    """Return family and width of each backbone; of widths that make one network the first."""
    found: dict[AnyBackboneSpec, tuple[str, int]] = {}
    for family in space.backbones:
        for width in space.backbone_widths:
            found.setdefault(one_name(BackboneSpec(family=family, width=width)), (family, width))
    return list(found.values())


def gene_choices(space: StructuralSpace) -> dict[str, tuple[Gene, ...]]:
    """Return the choices by Optuna parameter, in the order in which a trial suggests them."""
    return {
        "input_size": space.input_sizes,
        "backbone.family": space.backbones,
        "backbone.width": space.backbone_widths,
        "neck.kind": space.necks,
        "neck.min_level": space.neck_min_levels,
        "neck.max_level": space.neck_max_levels,
        "neck.channels": space.neck_channels,
        "neck.extra": space.neck_extras,
        "rpn.kind": space.rpns,
        "head.kind": space.heads,
        "head.width": space.head_widths,
    }


def express(genome: Mapping[str, Any]) -> DetectorSpec:
    """Decode ``genome`` into its architecture.

    The head ``retina`` switches off ``neck.kind`` (it always has a pyramid), ``rpn.kind`` and ``head.width``. The neck
    ``c4`` switches off the other genes of the neck and ``head.width``. A pyramid up to p5 switches off ``neck.extra``.
    """
    one_stage = genome["head.kind"] == RETINA
    pyramid = one_stage or genome["neck.kind"] == PYRAMID
    return DetectorSpec(
        input_size=parse_input_size(genome["input_size"]),
        backbone=BackboneSpec(family=genome["backbone.family"], width=genome["backbone.width"]),
        neck=_express_pyramid(genome) if pyramid else None,
        rpn=None if one_stage else RPNS[genome["rpn.kind"]],
        head=build_head(genome["head.kind"], genome["head.width"] if pyramid else None),
    )


def _active_genes(spec: DetectorSpec, backbone: BackboneSpec) -> dict[str, Gene]:
    """Return the genes of ``spec`` without those that are switched off; the inverse of :func:`express`."""
    neck, head = spec.neck, spec.head
    genes: dict[str, Gene | None] = {
        "input_size": str(spec.input_size),
        "backbone.family": backbone.family,
        "backbone.width": backbone.width,
        "head.kind": head_kind(head),
    }
    if not isinstance(head, RetinaHeadSpec):
        genes |= {"neck.kind": NO_PYRAMID if neck is None else PYRAMID}
        genes |= {"rpn.kind": rpn_kind(spec.rpn), "head.width": head.width}
    if neck is not None:
        genes |= {"neck.min_level": neck.min_level, "neck.max_level": neck.max_level}
        genes |= {"neck.channels": neck.channels, "neck.extra": neck.extra}
    return {name: gene for name, gene in genes.items() if gene is not None}


def _express_pyramid(genome: Mapping[str, Any]) -> NeckSpec:
    return NeckSpec(
        min_level=genome["neck.min_level"],
        max_level=genome["neck.max_level"],
        channels=genome["neck.channels"],
        extra=genome["neck.extra"] if genome["neck.max_level"] > BACKBONE_TOP else None,
    )
