"""Space of the modular search (stage 2): the blocks of a structure, written out, and its widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from smnas_optuna.arch import DetectorSpec, MobileNetSpec, RetinaHeadSpec, encode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.arch.mobilenet import same_width
from smnas_optuna.arch.order import kinds_of
from smnas_optuna.arch.spec import MIN_WIDTH, STEMS, written_out
from smnas_optuna.config import ModularSpace
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space.backbone_genes import STEM, WIDTH, BackboneGenes, RowGenes, StringGenes, number
from smnas_optuna.search_space.space import Gene, Genome, SearchSpace, listed

CHANGES_A_CHILD = 3
STEP_PROBABILITY = 0.5
"""Probability of a step of the base channels, as in the paper's code. This project uses it also for a step of the stem,
the input size or one of the other widths."""


class ModularSearchSpace(SearchSpace):
    """Space around ``parent``: its kinds of block, pyramid, RPN and head are fixed, and its blocks and widths vary.

    The blocks of ResNets and ResNeXts vary as the paper's strings. Those of MobileNetV2 vary in its rows: their numbers
    of blocks and their expansions. So every parent is in its own space, as the network that stage 1 trained.

    The parent's own stem, depth and widths are always in the space, whatever ``settings`` say. A parent outside of its
    own space could not begin the search.

    Args:
        settings: Choices.
        parent: Member of the structural front.
        input_sizes: Input sizes of the structural search, in order. With ``settings.vary_input_size`` the neighbours of
            the parent's size are choices.

    Attributes:
        as_json: The space as JSON values, for the fingerprint of its study.
    """

    def __init__(self, settings: ModularSpace, parent: DetectorSpec, input_sizes: tuple[str, ...] = ()) -> None:
        self._parent = parent
        backbone = written_out(parent.backbone)
        self._genes: BackboneGenes
        if isinstance(backbone, MobileNetSpec):
            self._genes = RowGenes(backbone, settings.min_blocks, settings.max_blocks)
            base_channels = tuple(same_width(width, MIN_WIDTH) for width in settings.base_channels)
            stems: tuple[str, ...] = ()
        else:
            self._genes = StringGenes(backbone, settings.min_blocks, settings.max_blocks)
            base_channels = settings.base_channels
            stems = tuple(stem for stem in STEMS if stem in (*settings.stems, backbone.stem))
        neck, head = parent.neck, parent.head
        self._head_width = None if isinstance(head, RetinaHeadSpec) else head.width
        sizes: tuple[str, ...] = (str(parent.input_size),)
        if settings.vary_input_size and sizes[0] in input_sizes:
            place = input_sizes.index(sizes[0])
            sizes = input_sizes[max(0, place - 1) : place + 2]
        widths: dict[str, tuple[Gene, ...]] = {
            "input_size": sizes,
            STEM: stems,
            WIDTH: _with(base_channels, backbone.width),
            "neck.channels": () if neck is None else _with(settings.neck_channels, neck.channels),
            "head.width": () if self._head_width is None else _with(settings.head_widths, self._head_width),
        }
        self._widths = {name: choices for name, choices in widths.items() if choices}
        self.choices: dict[str, tuple[Gene, ...]] = {**self._widths, **self._genes.choices}
        self.size = self._genes.size
        for choices in self._widths.values():
            self.size *= len(choices)
        self.as_json: Mapping[str, Any] = {
            **settings.model_dump(mode="json"),
            "input_sizes": list(sizes),
            **self._genes.mark,
        }

    def in_words(self) -> str:
        """See :class:`SearchSpace`."""
        return (
            f"around {encode(self._parent)}: {self._genes.min_blocks} to {self._genes.max_blocks} blocks of base "
            f"channels {listed(self.choices[WIDTH])} at {listed(self.choices['input_size'])}"
        )

    def express(self, genome: Genome) -> DetectorSpec:
        """See :class:`SearchSpace`; see :mod:`smnas_optuna.search_space.backbone_genes` for the backbone."""
        spec = replace(
            self._parent,
            input_size=parse_input_size(str(genome["input_size"])),
            backbone=self._genes.express(genome),
        )
        if spec.neck is not None:
            spec = replace(spec, neck=replace(spec.neck, channels=number(genome, "neck.channels")))
        if not isinstance(spec.head, RetinaHeadSpec) and self._head_width is not None:
            spec = replace(spec, head=replace(spec.head, width=number(genome, "head.width")))
        return spec

    def genome(self, spec: DetectorSpec) -> Genome:
        """See :class:`SearchSpace`."""
        head = spec.head
        if kinds_of(spec) != kinds_of(self._parent):
            raise ConfigError(
                f"{encode(spec)} is not in the modular space of {encode(self._parent)}: its modules are of other kinds",
                fix="take the parent's kinds of block, pyramid, RPN and head",
            )
        backbone = written_out(spec.backbone)
        active: dict[str, Gene | None] = {"input_size": str(spec.input_size)}
        active |= {STEM: None if isinstance(backbone, MobileNetSpec) else backbone.stem, WIDTH: backbone.width}
        active["neck.channels"] = None if spec.neck is None else spec.neck.channels
        active["head.width"] = None if isinstance(head, RetinaHeadSpec) else head.width
        genome = {name: gene for name, gene in active.items() if gene is not None}
        depth = self._genes.depth(backbone)
        for name, gene in {**genome, **depth}.items():
            if gene not in self.choices[name]:
                raise ConfigError(
                    f"{encode(spec)} is not in the modular space of {encode(self._parent)}: {name} {gene!r} is none of "
                    "its choices",
                    fix=f"take one of {listed(self.choices[name])}",
                )
        return {**genome, **self._genes.genome(backbone)}

    def mutate(self, genome: Genome, random: np.random.Generator) -> Genome:
        """Mutate as in the paper: possibly a step of the base channels, then three changes of the blocks.

        In addition to the paper, one of the other widths, the stem or the input size may move by a step. Changes that
        undo one another are made again.
        """
        parent = self.express(genome)
        while True:
            mutated = self._mutated(genome, random)
            if self.express(mutated) != parent:
                return mutated

    def draw(self, random: np.random.Generator) -> Genome:
        """Draw random widths, and random blocks with all depths equally likely.

        Not all architectures are equally likely, because there are many more deep strings than shallow ones: of those
        of 5 to 35 blocks, 48 % have 33 or more. The fast half of a front would never be drawn.
        """
        return {**super().draw(random), **self._genes.draw(random)}

    def _mutated(self, genome: Genome, random: np.random.Generator) -> Genome:
        mutated = dict(genome)
        others = [name for name, choices in self._widths.items() if name != WIDTH and len(choices) > 1]
        for names in ([WIDTH], others):
            movable = [name for name in names if len(self.choices[name]) > 1]
            if movable and random.random() < STEP_PROBABILITY:
                name = movable[random.integers(len(movable))]
                mutated = self.step(mutated, name, random)
        for _ in range(CHANGES_A_CHILD):
            mutated |= self._genes.changed(mutated, random)
        return mutated


def _with(choices: tuple[int, ...], own: int) -> tuple[int, ...]:
    return tuple(sorted({*choices, own}))
