"""How much of the spread of AP and latency each choice of an architecture explains, among what was trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from smnas_optuna.arch import DetectorSpec, EncodedBackboneSpec, MobileNetSpec, decode
from smnas_optuna.arch.codec import head_kind, rpn_kind
from smnas_optuna.errors import ArchError
from smnas_optuna.study.record import TrialRecord

FEWEST = 8
"""Trained detectors below which nothing is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One value of a choice, and the trained detectors that have it.

    Attributes:
        name: The value.
        count: Number of detectors.
        mean_ap: Mean of their AP, in [0, 1].
        mean_ms: Mean of their latency, in ms.
    """

    name: str
    count: int
    mean_ap: float
    mean_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """A choice and what it explains.

    Attributes:
        name: Name of the choice.
        of_ap: Share of the variance of AP, in [0, 1]; see :func:`explained`.
        of_latency: The same of latency.
        values: Its values, the highest mean AP first.
    """

    name: str
    of_ap: float
    of_latency: float
    values: Sequence[Value]


def choices_of(spec: DetectorSpec) -> Mapping[str, str]:
    """Return the choices that make up a detector, as text by name."""
    backbone, neck, head = spec.backbone, spec.neck, spec.head
    if isinstance(backbone, EncodedBackboneSpec):
        kind = f"{backbone.block} {'-'.join(backbone.stages)}"
    elif isinstance(backbone, MobileNetSpec):
        kind = f"mobilenet_v2 with {sum(backbone.depths)} blocks"
    else:
        kind = backbone.family
    return {
        "input size": str(spec.input_size),
        "backbone": kind,
        "backbone width": str(backbone.width),
        "first pyramid level": "none" if neck is None else f"p{neck.min_level}",
        "last pyramid level": "none" if neck is None else f"p{neck.max_level}",
        "pyramid channels": "none" if neck is None else str(neck.channels),
        "RPN": rpn_kind(spec.rpn),
        "head": head_kind(head),
        "head width": str(getattr(head, "width", None) or "none"),
    }


def importances(records: Sequence[TrialRecord]) -> list[Importance]:
    """Return the choices that differ among trained ``records``, the one that explains most of AP first.

    Empty for fewer than ``FEWEST``. A choice with nearly as many values as detectors is left out: it explains anything.
    """
    rows = []
    for record in records:
        try:
            rows.append((choices_of(decode(str(record.arch))), record.ap or 0.0, record.latency_ms or 0.0))
        except ArchError:
            continue
    if len(rows) < FEWEST:
        return []
    found = []
    for name in rows[0][0]:
        groups = defaultdict[str, list[tuple[float, float]]](list)
        for choices, ap, ms in rows:
            groups[choices[name]].append((ap, ms))
        if not 1 < len(groups) <= len(rows) / 2:
            continue
        values = [
            Value(name=value, count=len(each), mean_ap=fmean(ap for ap, _ in each), mean_ms=fmean(ms for _, ms in each))
            for value, each in groups.items()
        ]
        found.append(
            Importance(
                name=name,
                of_ap=explained([[ap for ap, _ in each] for each in groups.values()]),
                of_latency=explained([[ms for _, ms in each] for each in groups.values()]),
                values=sorted(values, key=lambda value: -value.mean_ap),
            )
        )
    return sorted(found, key=lambda each: -each.of_ap)


def explained(groups: Sequence[Sequence[float]]) -> float:
    """Return the share of the variance that lies between ``groups``, in [0, 1].

    It is epsilon squared (Kelley, An unbiased correlation ratio measure, 1935): the correlation ratio without what
    groups of random values would explain. It is 0 where these would explain as much.
    """
    values = [value for group in groups for value in group]
    mean, free = fmean(values), len(values) - len(groups)
    whole = sum((value - mean) ** 2 for value in values)
    if whole <= 0 or free <= 0:
        return 0.0
    inside = sum((value - fmean(group)) ** 2 for group in groups for value in group)
    return max(0.0, 1 - (inside / whole) * (len(values) - 1) / free)
