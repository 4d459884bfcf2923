"""Stage 1: the combination of input size, backbone, neck, RPN and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from smnas_optuna.arch import (
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    HeadSpec,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
    encode,
)
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.config import StructuralSpace
from smnas_optuna.errors import ConfigError

Gene = str | int


def suggest_structural(trial: optuna.Trial, space: StructuralSpace) -> DetectorSpec:
    """Read one structural-level architecture from ``trial``.

    Every parameter is named after the spec field it sets, and every one is asked in every trial: NSGA-II crosses over
    only what all trials share. Genes that the other choices switch off, such as the width of an RoI head in a one-stage
    detector, do not reach the spec: they make no second name for the same detector.
    """
    genome = {name: trial.suggest_categorical(name, choices) for name, choices in gene_choices(space).items()}
    return express(genome)


def structural_genome(spec: DetectorSpec, space: StructuralSpace) -> dict[str, Gene]:
    """Return a genome of ``space`` that is read as ``spec``; genes that are switched off take their first choice.

    Raises:
        ConfigError: If the space does not hold ``spec``; names the first gene that it lacks.
    """
    if isinstance(spec.backbone, EncodedBackboneSpec):
        raise ConfigError(
            f"{encode(spec)} is not in [space.structural]: its backbone is written out block by block",
            fix=f"take one of {', '.join(space.backbones)}",
        )
    choices = gene_choices(space)
    genome: dict[str, Gene] = {
        "input_size": str(spec.input_size),
        "backbone.family": spec.backbone.family,
        "backbone.width": spec.backbone.width,
        "neck.min_level": spec.neck.min_level,
        "neck.max_level": spec.neck.max_level,
        "neck.channels": spec.neck.channels,
        "rpn.kind": choices["rpn.kind"][0] if spec.rpn is None else "rpn",
        "head.kind": "retina" if isinstance(spec.head, RetinaHeadSpec) else "fc",
        "head.width": spec.head.width if isinstance(spec.head, FcHeadSpec) else choices["head.width"][0],
    }
    for name, gene in genome.items():
        if gene not in choices[name]:
            raise ConfigError(
                f"{encode(spec)} is not in [space.structural]: {name} {gene!r} is none of its choices",
                fix=f"add it to the space, or take one of {', '.join(map(str, choices[name]))}",
            )
    return genome


def count_architectures(space: StructuralSpace) -> int:
    """The number of different architectures in ``space``; genomes that are read as one count once."""
    choices = {name: len(values) for name, values in gene_choices(space).items()}
    roi_heads = sum(kind != "retina" for kind in space.heads)
    heads = roi_heads * choices["rpn.kind"] * choices["head.width"] + ("retina" in space.heads)
    shared = ("input_size", "backbone.family", "backbone.width", "neck.min_level", "neck.max_level", "neck.channels")
    for name in shared:
        heads *= choices[name]
    return heads


def gene_choices(space: StructuralSpace) -> dict[str, tuple[Gene, ...]]:
    """Optuna parameter -> its choices, in the order in which they are asked."""
    return {
        "input_size": space.input_sizes,
        "backbone.family": space.backbones,
        "backbone.width": space.backbone_widths,
        "neck.min_level": space.neck_min_levels,
        "neck.max_level": space.neck_max_levels,
        "neck.channels": space.neck_channels,
        "rpn.kind": space.rpns,
        "head.kind": space.heads,
        "head.width": space.head_widths,
    }


def express(genome: Mapping[str, Any]) -> DetectorSpec:
    """Return the architecture that ``genome`` is read as."""
    one_stage = genome["head.kind"] == "retina"
    head: HeadSpec = RetinaHeadSpec() if one_stage else FcHeadSpec(width=genome["head.width"])
    return DetectorSpec(
        input_size=parse_input_size(genome["input_size"]),
        backbone=BackboneSpec(family=genome["backbone.family"], width=genome["backbone.width"]),
        neck=NeckSpec(
            min_level=genome["neck.min_level"],
            max_level=genome["neck.max_level"],
            channels=genome["neck.channels"],
        ),
        rpn=None if one_stage else RpnSpec(),
        head=head,
    )
