"""The latency of a detector in its parts: network, proposals, post-processing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, get_args

from smnas_optuna.page import Bar, Html, bars, element, joined
from smnas_optuna.report.tables import short
from smnas_optuna.runtime.names import Runtime
from smnas_optuna.runtime.parts import NETWORK, PARTS, checked_shares, split
from smnas_optuna.study.record import TrialRecord

_GROUPS = {
    "the network": NETWORK,
    "proposals and pooling of their regions": ("proposals", "pooling"),
    "post-processing": ("selection",),
    "other work": ("other",),
}


def latency_parts(record: TrialRecord) -> Html:
    """Return the parts of a latency in words and as bars, of which each begins where the one before ends.

    They add up to the latency that the front shows. Where they were not taken, a note says so; nothing is said of
    detectors that torch ran.
    """
    stored: Mapping[str, Any] = record.attrs.get("latency", {})
    shares, latency = checked_shares(stored.get("parts")), record.latency
    if shares is None or latency is None or not math.isfinite(latency.ms):
        said = "Its parts are not known. smnas retime takes those of members of the front."
        return element("p", said, class_="soft") if stored.get("runtime") in get_args(Runtime) else Html()
    total = Decimal(short(latency.ms))
    step = total.as_tuple().exponent
    assert isinstance(step, int)
    unit = Decimal(1).scaleb(step)
    times, percents = _add_up(int(total / unit), shares), _add_up(100, shares)
    texts = {name: f"{times[name] * unit:f} ms" for name in times}
    told = [f"{name} {texts[name]} ({percents[name]} %)" for name in _GROUPS if name in texts]
    rows, start = list[Bar](), 0.0
    for part, share in shares.items():
        rows.append(Bar(label=PARTS[part], value=share, text=f"{texts[part]}, {percents[part]} %", start=start))
        start += share
    return joined(
        [
            element("p", f"Of {total:f} ms: {', '.join(told)}."),
            bars("Where the time of an image goes, in the order of the work", rows, heads=("part", "time and share")),
        ]
    )


def _add_up(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers for groups and parts: groups are ``total`` together, and parts are their group."""
    groups = {name: [part for part in parts if part in shares] for name, parts in _GROUPS.items()}
    sums = {name: sum(shares[part] for part in parts) for name, parts in groups.items() if parts}
    counts = dict(zip(sums, split(total, list(sums.values())), strict=True))
    for name, whole in list(counts.items()):
        own = [shares[part] / sums[name] if sums[name] else 0.0 for part in groups[name]]
        counts |= zip(groups[name], split(whole, own), strict=True)
    return counts
