"""Space of the modular search (stage 2): the blocks of a structure, written out as a string, and its widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smnas_optuna.arch import DetectorSpec, EncodedBackboneSpec, RetinaHeadSpec, encode
from smnas_optuna.arch.classics import written_out
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.arch.order import kinds_of
from smnas_optuna.arch.spec import NUM_DOUBLINGS, STEMS
from smnas_optuna.config import ModularSpace
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space.space import Gene, Genome, SearchSpace, listed
from smnas_optuna.search_space.strings import (
    CHANGES,
    NUM_CUTS,
    changed,
    count_strings,
    draw_string,
    places_of,
    read_string,
    spread_out,
    write_string,
)

STEM, WIDTH, DEPTH = "backbone.stem", "backbone.width", "backbone.depth"
CUTS = tuple(f"backbone.stage{level}" for level in range(3, 3 + NUM_CUTS))
DOUBLINGS = tuple(f"backbone.double{number}" for number in range(1, NUM_DOUBLINGS + 1))
CHANGES_A_CHILD = 3
STEP_PROBABILITY = 0.5
"""Probability of a step of the base channels, as in the paper's code. This project uses it also for a step of the stem,
the input size or one of the other widths."""


def encoded(spec: DetectorSpec) -> DetectorSpec:
    """Return ``spec`` with its backbone written out; see :func:`smnas_optuna.arch.classics.written_out`."""
    return replace(spec, backbone=written_out(spec.backbone))


class ModularSearchSpace(SearchSpace):
    """Space around ``parent``: its kinds of block, pyramid, RPN and head are fixed, and its blocks and widths vary.

    The parent's own stem, depth and widths are always in the space, whatever ``settings`` say. A parent outside of its
    own space could not begin the search.

    Args:
        settings: Choices.
        parent: Member of the structural front.
        input_sizes: Input sizes of the structural search, in order. With ``settings.vary_input_size`` the neighbours of
            the parent's size are choices.
    """

    def __init__(self, settings: ModularSpace, parent: DetectorSpec, input_sizes: tuple[str, ...] = ()) -> None:
        self._name, parent = encode(parent), encoded(parent)
        assert isinstance(parent.backbone, EncodedBackboneSpec)
        self._parent, self._block = parent, parent.backbone.block
        depth = sum(map(len, parent.backbone.stages))
        self._min_blocks, self._max_blocks = min(settings.min_blocks, depth), max(settings.max_blocks, depth)
        neck, head = parent.neck, parent.head
        self._head_width = None if isinstance(head, RetinaHeadSpec) else head.width
        sizes: tuple[str, ...] = (str(parent.input_size),)
        if settings.vary_input_size and sizes[0] in input_sizes:
            place = input_sizes.index(sizes[0])
            sizes = input_sizes[max(0, place - 1) : place + 2]
        widths: dict[str, tuple[Gene, ...]] = {
            "input_size": sizes,
            STEM: tuple(stem for stem in STEMS if stem in (*settings.stems, parent.backbone.stem)),
            WIDTH: _with(settings.base_channels, parent.backbone.width),
            "neck.channels": () if neck is None else _with(settings.neck_channels, neck.channels),
            "head.width": () if self._head_width is None else _with(settings.head_widths, self._head_width),
        }
        self._widths = {name: choices for name, choices in widths.items() if choices}
        positions = tuple(range(self._max_blocks))
        self.choices: dict[str, tuple[Gene, ...]] = {
            **self._widths,
            DEPTH: tuple(range(self._min_blocks, self._max_blocks + 1)),
            **dict.fromkeys((*CUTS, *DOUBLINGS), positions),
        }
        self.size = count_strings(self._min_blocks, self._max_blocks)
        for choices in self._widths.values():
            self.size *= len(choices)

    def in_words(self) -> str:
        """See :class:`SearchSpace`."""
        return (
            f"around {self._name}: {self._min_blocks} to {self._max_blocks} blocks of base channels "
            f"{listed(self.choices[WIDTH])} at {listed(self.choices['input_size'])}"
        )

    def express(self, genome: Genome) -> DetectorSpec:
        """See :class:`SearchSpace`; :func:`smnas_optuna.search_space.strings.places_of` decodes the positions."""
        depth = _number(genome, DEPTH)
        cuts = places_of([_number(genome, name) for name in CUTS], depth - 1, self._max_blocks)
        doublings = places_of([_number(genome, name) for name in DOUBLINGS], depth, self._max_blocks)
        spec = replace(
            self._parent,
            input_size=parse_input_size(str(genome["input_size"])),
            backbone=EncodedBackboneSpec(
                block=self._block,
                width=_number(genome, WIDTH),
                stages=write_string(depth, cuts, doublings),
                stem=str(genome[STEM]),
            ),
        )
        if spec.neck is not None:
            spec = replace(spec, neck=replace(spec.neck, channels=_number(genome, "neck.channels")))
        if not isinstance(spec.head, RetinaHeadSpec) and self._head_width is not None:
            spec = replace(spec, head=replace(spec.head, width=_number(genome, "head.width")))
        return spec

    def genome(self, spec: DetectorSpec) -> Genome:
        """See :class:`SearchSpace`."""
        backbone, head = spec.backbone, spec.head
        if not isinstance(backbone, EncodedBackboneSpec) or kinds_of(spec) != kinds_of(self._parent):
            raise ConfigError(
                f"{encode(spec)} is not in the modular space of {encode(self._parent)}: its modules are of other kinds",
                fix="take the parent's kinds of block, pyramid, RPN and head, and write the backbone out",
            )
        active: dict[str, Gene | None] = {"input_size": str(spec.input_size)}
        active |= {STEM: backbone.stem, WIDTH: backbone.width}
        active["neck.channels"] = None if spec.neck is None else spec.neck.channels
        active["head.width"] = None if isinstance(head, RetinaHeadSpec) else head.width
        genome = {name: gene for name, gene in active.items() if gene is not None}
        depth = sum(map(len, backbone.stages))
        for name, gene in {**genome, DEPTH: depth}.items():
            if gene not in self.choices[name]:
                raise ConfigError(
                    f"{encode(spec)} is not in the modular space of {encode(self._parent)}: {name} {gene!r} is none of "
                    "its choices",
                    fix=f"take one of {listed(self.choices[name])}",
                )
        return {**genome, **self._string_genes(backbone.stages)}

    def _string_genes(self, stages: tuple[str, ...]) -> dict[str, Gene]:
        depth, cuts, doublings = read_string(stages)
        genes: dict[str, Gene] = {DEPTH: depth}
        genes |= {name: spread_out(cut, depth - 1, self._max_blocks) for name, cut in zip(CUTS, cuts, strict=True)}
        return genes | {
            name: spread_out(place, depth, self._max_blocks) for name, place in zip(DOUBLINGS, doublings, strict=True)
        }

    def mutate(self, genome: Genome, random: np.random.Generator) -> Genome:
        """Mutate as in the paper: possibly a step of the base channels, then three changes of the string.

        In addition to the paper, one of the other widths, the stem or the input size may move by a step.
        """
        mutated = dict(genome)
        others = [name for name, choices in self._widths.items() if name != WIDTH and len(choices) > 1]
        for names in ([WIDTH], others):
            movable = [name for name in names if len(self.choices[name]) > 1]
            if movable and random.random() < STEP_PROBABILITY:
                name = movable[random.integers(len(movable))]
                mutated = self.step(mutated, name, random)
        backbone = self.express(mutated).backbone
        assert isinstance(backbone, EncodedBackboneSpec)
        stages = backbone.stages
        for _ in range(CHANGES_A_CHILD):
            kinds = [
                made
                for change in CHANGES
                if (made := changed(stages, change, min_blocks=self._min_blocks, max_blocks=self._max_blocks))
            ]
            made = kinds[random.integers(len(kinds))]
            stages = made[random.integers(len(made))]
        return {**mutated, **self._string_genes(stages)}

    def draw(self, random: np.random.Generator) -> Genome:
        """Draw random widths, and a random string with all depths equally likely."""
        return {
            **super().draw(random),
            **self._string_genes(draw_string(self._min_blocks, self._max_blocks, random)),
        }

    def draw_architecture(self, random: np.random.Generator) -> Genome:
        """See :class:`SearchSpace`; strings are drawn and not their genes, so that every draw is accepted."""
        return self.draw(random)


def _with(choices: tuple[int, ...], own: int) -> tuple[int, ...]:
    return tuple(sorted({*choices, own}))


def _number(genome: Genome, name: str) -> int:
    value = genome[name]
    assert isinstance(value, int)
    return value
