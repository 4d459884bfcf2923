"""Block strings of the modular search: counting, drawing, changing, and encoding by a fixed number of genes.

Rows of MobileNetV2 are in :mod:`smnas_optuna.search_space.rows`.

Three things determine a string such as ``121-211-1111-12111``: its number of blocks ``D``; the cuts where the three
later stages begin, 3 of the ``D - 1`` gaps between blocks; and the doublings, 3 of the ``D`` blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Literal, get_args

import numpy as np

from smnas_optuna.arch.spec import NUM_DOUBLINGS, NUM_STAGES

Stages = tuple[str, ...]
"""A string of ``1`` and ``2`` for each of the four stages; see :class:`smnas_optuna.arch.EncodedBackboneSpec`."""
Change = Literal["insert", "remove", "swap"]
CHANGES: tuple[Change, ...] = get_args(Change)
NUM_CUTS = NUM_STAGES - 1


def count_strings(min_blocks: int, max_blocks: int) -> int:
    """Return the number of strings of ``min_blocks`` to ``max_blocks`` blocks: C(D - 1, 3) C(D, 3) for each depth D."""
    return sum(comb(depth - 1, NUM_CUTS) * comb(depth, NUM_DOUBLINGS) for depth in range(min_blocks, max_blocks + 1))


def all_strings(min_blocks: int, max_blocks: int) -> Iterator[Stages]:
    """Iterate over all strings, shortest first."""
    for depth in range(min_blocks, max_blocks + 1):
        for cuts in combinations(range(depth - 1), NUM_CUTS):
            for doublings in combinations(range(depth), NUM_DOUBLINGS):
                yield write_string(depth, cuts, doublings)


def draw_string(min_blocks: int, max_blocks: int, random: np.random.Generator) -> Stages:
    """Draw a random string: all depths are equally likely, and so are all strings of one depth."""
    depth = int(random.integers(min_blocks, max_blocks + 1))
    cuts = random.choice(depth - 1, NUM_CUTS, replace=False)
    doublings = random.choice(depth, NUM_DOUBLINGS, replace=False)
    return write_string(depth, sorted(cuts), sorted(doublings))


def write_string(depth: int, cuts: Sequence[int], doublings: Sequence[int]) -> Stages:
    """Return the string of ``depth`` blocks, with a new stage after each of ``cuts`` and a ``2`` at ``doublings``."""
    blocks = "".join("2" if place in doublings else "1" for place in range(depth))
    ends = [0, *(cut + 1 for cut in cuts), depth]
    return tuple(blocks[start:end] for start, end in pairwise(ends))


def read_string(stages: Stages) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return depth, cuts and doublings, ascending; the inverse of :func:`write_string`."""
    blocks = "".join(stages)
    lengths = np.cumsum([len(stage) for stage in stages[:-1]])
    cuts = tuple(int(length) - 1 for length in lengths)
    return len(blocks), cuts, tuple(place for place, block in enumerate(blocks) if block == "2")


def changed(stages: Stages, change: Change, *, min_blocks: int, max_blocks: int) -> list[Stages]:
    """Return all strings that one ``change`` of the paper makes of ``stages``, without itself, sorted by text.

    Args:
        stages: A string.
        change: ``insert`` a ``1`` anywhere, ``remove`` a ``1``, or ``swap`` a ``2`` or ``-`` with a neighbour.
        min_blocks: Minimum number of blocks in the result.
        max_blocks: Maximum number of blocks in the result.
    """
    text = "-".join(stages)
    match change:
        case "insert":
            texts = {text[:place] + "1" + text[place:] for place in range(len(text) + 1)}
        case "remove":
            texts = {text[:place] + text[place + 1 :] for place in range(len(text)) if text[place] == "1"}
        case "swap":
            texts = {text[:place] + text[place + 1] + text[place] + text[place + 2 :] for place in range(len(text) - 1)}
    made = [tuple(each.split("-")) for each in sorted(texts - {text})]
    return [each for each in made if all(each) and min_blocks <= sum(map(len, each)) <= max_blocks]


def spread_out(place: int, count: int, most: int) -> int:
    """Encode the position ``place`` of ``count`` as a gene in 0 .. ``most`` - 1; :func:`places_of` decodes it."""
    return -(-place * most // count)


def places_of(genes: Sequence[int], count: int, most: int) -> list[int]:
    """Decode ``genes`` in 0 .. ``most`` - 1 into distinct positions of ``count``, ascending.

    A gene is a relative position, so that a crossover keeps the middle in the middle, whatever the depth. Repair rule:
    if genes fall on the same position, the later ones move up to the next free one; those that are pushed beyond the
    end move down.
    """
    places = sorted(gene * count // most for gene in genes)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 1)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], count - len(places) + i)
    return places
