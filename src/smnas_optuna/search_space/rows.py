"""Rows of MobileNetV2 in the modular search: counting, drawing and changing.

Three things determine the rows: their number of blocks ``D``; the cuts where the five later rows begin, 5 of the
``D - 1`` gaps between blocks; and the expansion of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import comb
from typing import Literal, get_args

import numpy as np

from smnas_optuna.arch.mobilenet import CLASSIC_DEPTHS, EXPANSIONS

NUM_ROWS = len(CLASSIC_DEPTHS)
NUM_ROW_CUTS = NUM_ROWS - 1
Rows = tuple[tuple[int, ...], tuple[int, ...]]
"""Number of blocks and expansion of each row; see :class:`smnas_optuna.arch.MobileNetSpec`."""
RowChange = Literal["insert", "remove", "move", "expand"]
ROW_CHANGES: tuple[RowChange, ...] = get_args(RowChange)


def count_rows(min_blocks: int, max_blocks: int) -> int:
    """Return the number of rows of ``min_blocks`` to ``max_blocks`` blocks: C(D - 1, 5) 2^6 for each depth D."""
    expansions: int = len(EXPANSIONS) ** NUM_ROWS
    return sum(comb(depth - 1, NUM_ROW_CUTS) for depth in range(min_blocks, max_blocks + 1)) * expansions


def draw_rows(min_blocks: int, max_blocks: int, random: np.random.Generator) -> Rows:
    """Draw random rows: all depths are equally likely, and so are all rows of one depth."""
    depth = int(random.integers(min_blocks, max_blocks + 1))
    cuts = sorted(int(cut) for cut in random.choice(depth - 1, NUM_ROW_CUTS, replace=False))
    return rows_between(depth, cuts), tuple(int(each) for each in random.choice(EXPANSIONS, NUM_ROWS))


def rows_between(depth: int, cuts: Sequence[int]) -> tuple[int, ...]:
    """Return the number of blocks in each row of ``depth`` blocks, with a new row after each of ``cuts``, ascending."""
    return tuple(end - start for start, end in pairwise([0, *(cut + 1 for cut in cuts), depth]))


def cuts_of(depths: Sequence[int]) -> list[int]:
    """Return the cuts between rows of ``depths`` blocks, ascending; the inverse of :func:`rows_between`."""
    return [end - 1 for end in accumulate(depths[:-1])]


def changed_rows(rows: Rows, change: RowChange, *, min_blocks: int, max_blocks: int) -> list[Rows]:
    """Return all rows that one ``change`` makes of ``rows``, without themselves.

    They are what the paper's changes of a block string are to rows, whose channels are fixed.

    Args:
        rows: Blocks and expansions.
        change: ``insert`` or ``remove`` a block of a row, ``move`` one to a neighbouring row, which is a swap of a
            boundary and a block, or ``expand``: give a row another expansion.
        min_blocks: Minimum number of blocks in the result.
        max_blocks: Maximum number of blocks in the result.
    """
    depths, expansions = rows
    match change:
        case "insert" | "remove":
            made = [_added(depths, {row: 1 if change == "insert" else -1}) for row in range(NUM_ROWS)]
        case "move":
            made = [_added(depths, {row: by, row + 1: -by}) for row in range(NUM_ROW_CUTS) for by in (-1, 1)]
        case "expand":
            others = [(row, other) for row in range(NUM_ROWS) for other in EXPANSIONS if other != expansions[row]]
            return [(depths, (*expansions[:row], other, *expansions[row + 1 :])) for row, other in others]
    return [(each, expansions) for each in made if min(each) > 0 and min_blocks <= sum(each) <= max_blocks]


def _added(depths: Sequence[int], more: dict[int, int]) -> tuple[int, ...]:
    return tuple(depth + more.get(row, 0) for row, depth in enumerate(depths))
