"""Genes of a written-out backbone in the modular search: of a block string, and of the rows of MobileNetV2."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from smnas_optuna.arch import EncodedBackboneSpec, MobileNetSpec
from smnas_optuna.arch.mobilenet import EXPANSIONS
from smnas_optuna.arch.spec import MOBILENET, NUM_DOUBLINGS, WrittenOutSpec
from smnas_optuna.search_space.rows import (
    NUM_ROW_CUTS,
    NUM_ROWS,
    ROW_CHANGES,
    Rows,
    changed_rows,
    count_rows,
    cuts_of,
    draw_rows,
    rows_between,
)
from smnas_optuna.search_space.space import Gene, Genome
from smnas_optuna.search_space.strings import (
    CHANGES,
    NUM_CUTS,
    Stages,
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
ROW_CUTS = tuple(f"backbone.row{number}" for number in range(2, 2 + NUM_ROW_CUTS))
ROW_EXPANSIONS = tuple(f"backbone.expansion{number}" for number in range(1, NUM_ROWS + 1))


class BackboneGenes(ABC):
    """Genes of the blocks of one kind of written-out backbone: their number, and how they are divided.

    Positions of blocks are relative, so that a crossover keeps them where they were; see
    :func:`smnas_optuna.search_space.strings.places_of`.

    Attributes:
        choices: Choices by parameter, without those of the widths and the stem.
        size: Number of different backbones with the same widths and stem.
        mark: What the fingerprint of a study has of this kind of genes, as JSON values.
        min_blocks: Minimum number of blocks.
        max_blocks: Maximum number of blocks.
    """

    choices: Mapping[str, tuple[Gene, ...]]
    size: int
    mark: Mapping[str, str]

    def __init__(self, depth: int, min_blocks: int, max_blocks: int) -> None:
        self.min_blocks, self.max_blocks = min(min_blocks, depth), max(max_blocks, depth)

    @abstractmethod
    def depth(self, backbone: WrittenOutSpec) -> dict[str, Gene]:
        """Return the gene of the number of blocks."""

    @abstractmethod
    def express(self, genome: Genome) -> WrittenOutSpec:
        """Decode a whole genome into its backbone."""

    @abstractmethod
    def genome(self, backbone: WrittenOutSpec) -> dict[str, Gene]:
        """Encode the blocks of ``backbone``; the inverse of :meth:`express`."""

    @abstractmethod
    def changed(self, genome: Genome, random: np.random.Generator) -> dict[str, Gene]:
        """Return the genes after one small random change of the blocks: all kinds of change are equally likely."""

    @abstractmethod
    def draw(self, random: np.random.Generator) -> dict[str, Gene]:
        """Draw random genes: all numbers of blocks are equally likely, and so are all backbones of one number."""

    def _places(self, genome: Genome, names: Sequence[str], count: int) -> list[int]:
        return places_of([number(genome, name) for name in names], count, self.max_blocks)

    def _spread(self, names: Sequence[str], places: Sequence[int], count: int) -> dict[str, Gene]:
        pairs = zip(names, places, strict=True)
        return {name: spread_out(place, count, self.max_blocks) for name, place in pairs}


class StringGenes(BackboneGenes):
    """Genes of a block string: one for the depth, three for the stages and three for the doublings.

    Args:
        parent: Gives the kind of block, and a depth that is always possible.
        min_blocks: Minimum number of blocks; the parent's if that is smaller.
        max_blocks: Maximum number of blocks; the parent's if that is larger.
    """

    mark: Mapping[str, str] = {}

    def __init__(self, parent: EncodedBackboneSpec, min_blocks: int, max_blocks: int) -> None:
        super().__init__(sum(map(len, parent.stages)), min_blocks, max_blocks)
        self._block = parent.block
        self.size = count_strings(self.min_blocks, self.max_blocks)
        self.choices = {
            DEPTH: tuple(range(self.min_blocks, self.max_blocks + 1)),
            **dict.fromkeys((*CUTS, *DOUBLINGS), tuple(range(self.max_blocks))),
        }

    def depth(self, backbone: WrittenOutSpec) -> dict[str, Gene]:
        """See :class:`BackboneGenes`."""
        return {DEPTH: sum(map(len, _stages_of(backbone)))}

    def express(self, genome: Genome) -> EncodedBackboneSpec:
        """See :class:`BackboneGenes`."""
        return EncodedBackboneSpec(
            block=self._block, width=number(genome, WIDTH), stages=self._string(genome), stem=str(genome[STEM])
        )

    def genome(self, backbone: WrittenOutSpec) -> dict[str, Gene]:
        """See :class:`BackboneGenes`."""
        return self._of(_stages_of(backbone))

    def changed(self, genome: Genome, random: np.random.Generator) -> dict[str, Gene]:
        """See :class:`BackboneGenes`; the changes are the paper's."""
        stages, limits = self._string(genome), {"min_blocks": self.min_blocks, "max_blocks": self.max_blocks}
        kinds = [made for change in CHANGES if (made := changed(stages, change, **limits))]
        made = kinds[random.integers(len(kinds))]
        return self._of(made[random.integers(len(made))])

    def draw(self, random: np.random.Generator) -> dict[str, Gene]:
        """See :class:`BackboneGenes`."""
        return self._of(draw_string(self.min_blocks, self.max_blocks, random))

    def _string(self, genome: Genome) -> Stages:
        depth = number(genome, DEPTH)
        cuts, doublings = self._places(genome, CUTS, depth - 1), self._places(genome, DOUBLINGS, depth)
        return write_string(depth, cuts, doublings)

    def _of(self, stages: Stages) -> dict[str, Gene]:
        depth, cuts, doublings = read_string(stages)
        return {DEPTH: depth, **self._spread(CUTS, cuts, depth - 1), **self._spread(DOUBLINGS, doublings, depth)}


class RowGenes(BackboneGenes):
    """Genes of the rows of MobileNetV2: one for the depth, five for where rows begin, and an expansion for each row.

    Args:
        parent: Gives a depth that is always possible.
        min_blocks: Minimum number of blocks, and at least one for each row; the parent's if that is smaller.
        max_blocks: Maximum number of blocks; the parent's if that is larger.
    """

    mark: Mapping[str, str] = {"rows": MOBILENET}

    def __init__(self, parent: MobileNetSpec, min_blocks: int, max_blocks: int) -> None:
        super().__init__(sum(parent.depths), max(min_blocks, NUM_ROWS), max_blocks)
        self.size = count_rows(self.min_blocks, self.max_blocks)
        self.choices = {
            DEPTH: tuple(range(self.min_blocks, self.max_blocks + 1)),
            **dict.fromkeys(ROW_CUTS, tuple(range(self.max_blocks))),
            **dict.fromkeys(ROW_EXPANSIONS, EXPANSIONS),
        }

    def depth(self, backbone: WrittenOutSpec) -> dict[str, Gene]:
        """See :class:`BackboneGenes`."""
        return {DEPTH: sum(_rows_of(backbone)[0])}

    def express(self, genome: Genome) -> MobileNetSpec:
        """See :class:`BackboneGenes`."""
        depths, expansions = self._rows(genome)
        return MobileNetSpec(width=number(genome, WIDTH), depths=depths, expansions=expansions)

    def genome(self, backbone: WrittenOutSpec) -> dict[str, Gene]:
        """See :class:`BackboneGenes`."""
        return self._of(_rows_of(backbone))

    def changed(self, genome: Genome, random: np.random.Generator) -> dict[str, Gene]:
        """See :class:`BackboneGenes`; see :func:`smnas_optuna.search_space.rows.changed_rows` for the changes."""
        rows, limits = self._rows(genome), {"min_blocks": self.min_blocks, "max_blocks": self.max_blocks}
        kinds = [made for change in ROW_CHANGES if (made := changed_rows(rows, change, **limits))]
        made = kinds[random.integers(len(kinds))]
        return self._of(made[random.integers(len(made))])

    def draw(self, random: np.random.Generator) -> dict[str, Gene]:
        """See :class:`BackboneGenes`."""
        return self._of(draw_rows(self.min_blocks, self.max_blocks, random))

    def _rows(self, genome: Genome) -> Rows:
        depth = number(genome, DEPTH)
        depths = rows_between(depth, self._places(genome, ROW_CUTS, depth - 1))
        return depths, tuple(number(genome, name) for name in ROW_EXPANSIONS)

    def _of(self, rows: Rows) -> dict[str, Gene]:
        depths, expansions = rows
        depth = sum(depths)
        return {
            DEPTH: depth,
            **self._spread(ROW_CUTS, cuts_of(depths), depth - 1),
            **dict(zip(ROW_EXPANSIONS, expansions, strict=True)),
        }


def number(genome: Genome, name: str) -> int:
    """Return a gene that is a number."""
    value = genome[name]
    assert isinstance(value, int)
    return value


def _stages_of(backbone: WrittenOutSpec) -> Stages:
    assert isinstance(backbone, EncodedBackboneSpec)
    return backbone.stages


def _rows_of(backbone: WrittenOutSpec) -> Rows:
    assert isinstance(backbone, MobileNetSpec)
    return backbone.depths, backbone.expansions
