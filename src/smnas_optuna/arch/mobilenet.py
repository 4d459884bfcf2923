"""MobileNetV2 as numbers: its rows of inverted residuals, and its channels at any base width (Sandler et al. 2018)."""

from __future__ import annotations

from functools import lru_cache

STEM_CHANNELS = 32
FIRST_CHANNELS = 16
"""Channels of the first block, of expansion 1 at stride 2. It belongs to every MobileNetV2, like the stem."""
ROW_CHANNELS = (24, 32, 64, 96, 160, 320)
"""Channels of the later rows of table 2, at the classic width."""
ROW_STRIDES = (2, 2, 2, 1, 2, 1)
"""Stride of the first block of each row; the others have stride 1."""
ROW_LEVELS = (2, 3, 4, 4, 5, 5)
"""Level of each row: a row of level ``l`` has stride ``2**l``."""
CLASSIC_DEPTHS = (2, 3, 4, 3, 3, 1)
"""Number of blocks in each row of the classic network."""
CLASSIC_EXPANSION = 6
EXPANSIONS = (3, 6)
"""Possible expansions of a row, as in the search space of ProxylessNAS (Cai et al. 2019); 6 is the classic one."""
CLASSIC_WIDTH = 64
"""Base width with width multiplier 1; the same number as in the other families."""


def scale_channels(classic: int, width: int) -> int:
    """Return the channels at base width ``width`` of a layer with ``classic`` channels at base width 64.

    They are rounded to a multiple of 8, and at most 10 % down. Below 16 channels the multiple is 2, so that narrow
    networks keep their shape.
    """
    wanted = classic * width / CLASSIC_WIDTH
    step = 8 if wanted >= 16 else 2
    rounded = max(step, int(wanted + step / 2) // step * step)
    return rounded + step if rounded < 0.9 * wanted else rounded


@lru_cache(maxsize=4096)
def same_width(width: int, lowest: int) -> int:
    """Return the smallest base width, from ``lowest`` on, with the channels of ``width`` in every layer.

    Rounding gives some neighbours, such as 22 and 23, the same network: same channels, and same groups of GroupNorm.
    """
    while width > lowest and _channels(width - 1) == _channels(width):
        width -= 1
    return width


def _channels(width: int) -> tuple[int, ...]:
    return tuple(scale_channels(classic, width) for classic in (STEM_CHANNELS, FIRST_CHANNELS, *ROW_CHANNELS))
