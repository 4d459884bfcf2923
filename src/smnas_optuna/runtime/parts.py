"""The latency of an exported detector in its parts: which operators belong to which, and what share each part takes.

An operator is named after the module of the exporter that it is in, such as ``/head/rpn/conv/Conv``. What a runtime
adds when it optimises the graph has no such name. ONNX Runtime adds ``ReorderInput`` right before the operator that
needs another layout, and everything else right behind the one that it was made of; OpenVINO adds all of it behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from smnas_optuna.runtime.names import Operators

OTHER = "other"
PARTS: Mapping[str, str] = MappingProxyType(
    {
        "backbone": "backbone",
        "neck": "neck",
        "rpn": "layers of the RPN",
        "proposals": "proposals",
        "pooling": "pooling of regions",
        "head": "layers of the head",
        "selection": "post-processing",
        OTHER: "other",
    }
)
"""Parts in the order in which an image passes them, and what they are called."""
NETWORK = ("backbone", "neck", "rpn", "head")
"""The parts that are layers of the network."""
MOST_OTHER = 0.2
"""Largest share of operators that belong to no part; a file with more was not written by this exporter."""

_SCOPES = {
    "pixels": "backbone",
    "backbone": "backbone",
    "neck": "neck",
    "head/references": "head",
    "head/rpn": "rpn",
    "head/proposals": "proposals",
    "head/pooling": "pooling",
    "head/ordering": "pooling",
    "head/trunk": "head",
    "head/stages": "head",
    "head/layers": "head",
    "head/refinement": "selection",
    "head/selection": "selection",
}
_NAME = re.compile(r"[^/]*/(pixels|backbone|neck|head/[a-z]+)(?:_\d+)?(?:[./]|$)")
"""A runtime may put a word before a name that it keeps, as in ``fused /head/stages.0/layers/fc6/Gemm``."""
_BEFORE_ITS_USER = "ReorderInput"


def part_of(operator: str) -> str | None:
    """Return the part that an operator belongs to; None if its name does not tell, as that of a runtime's own."""
    found = _NAME.match(operator)
    if found is not None:
        return _SCOPES.get(found[1], OTHER)
    return OTHER if operator.startswith("/") else None


def shares_of(operators: Operators) -> dict[str, float] | None:
    """Return the share of each part in the time of all operators, in the order of ``PARTS``; their sum is 1.

    None if nothing took time, or if too much of it belongs to no part.
    """
    parts = [part_of(name) for name, _ in operators]
    times = dict.fromkeys(PARTS, 0.0)
    for place, (name, us) in enumerate(operators):
        near = reversed(parts[: place + 1])
        if name.startswith(_BEFORE_ITS_USER):
            near = iter(parts[place:])
        times[next((part for part in near if part is not None), OTHER)] += us
    total = sum(times.values())
    if not total > 0 or times[OTHER] > MOST_OTHER * total:
        return None
    return {part: us / total for part, us in times.items() if us > 0}


def checked_shares(value: object) -> dict[str, float] | None:
    """Return stored shares in the order of ``PARTS``, or None if ``value`` is not like those of :func:`shares_of`."""
    if not isinstance(value, Mapping) or not value.keys() <= PARTS.keys():
        return None
    shares: dict[str, Any] = {part: value[part] for part in PARTS if part in value}
    if not all(
        isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1 for share in shares.values()
    ):
        return None
    total = sum(shares.values())
    return {part: share / total for part, share in shares.items()} if abs(total - 1) < 1e-6 else None


def parts_in_words(shares: Mapping[str, float]) -> str:
    """Return the shares as text, in percent that are 100 together."""
    percent = split(100, list(shares.values()))
    told = ", ".join(f"{PARTS[part]} {each} %" for part, each in zip(shares, percent, strict=True))
    return f"by part: {told}"


def split(total: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers that are ``total`` together, each less than 1 away from its share of it.

    Args:
        total: At least 0.
        shares: At least 0; their sum is 1.
    """
    exact = [total * share for share in shares]
    parts = [int(each) for each in exact]
    by_rest = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in by_rest[: total - sum(parts)]:
        parts[place] += 1
    return parts
