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

_GROUPS = (
    ("the network", NETWORK),
    ("proposals and pooling of their regions", ("proposals", "pooling")),
    ("post-processing", ("selection",)),
    ("other work", ("other",)),
)


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
    times = [count * unit for count in split(int(total / unit), list(shares.values()))]
    percent = split(100, list(shares.values()))
    rows, start = list[Bar](), 0.0
    for part, time, each in zip(shares, times, percent, strict=True):
        text = f"{time:f} ms, {each} %"
        rows.append(Bar(label=PARTS[part], value=shares[part], text=text, start=start))
        start += shares[part]
    by_part = dict(zip(shares, zip(times, percent, strict=True), strict=True))
    return joined(
        [
            element("p", _in_words(f"{total:f} ms", by_part)),
            bars("Where the time of an image goes, in the order of the work", rows, heads=("part", "time and share")),
        ]
    )


def _in_words(total: str, by_part: Mapping[str, tuple[Decimal, int]]) -> str:
    told = list[str]()
    for words, parts in _GROUPS:
        own = [by_part[part] for part in parts if part in by_part]
        if own:
            time, percent = sum((time for time, _ in own), Decimal(0)), sum(each for _, each in own)
            told.append(f"{words} {time:f} ms ({percent} %)")
    return f"Of {total}: {', '.join(told)}."
