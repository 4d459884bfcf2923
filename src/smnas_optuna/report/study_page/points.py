"""The trained detectors of a study as points on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from smnas_optuna.arch import decode
from smnas_optuna.arch.codec import describe
from smnas_optuna.errors import ArchError
from smnas_optuna.report.summary import Summary, stage_of
from smnas_optuna.report.tables import STAGE_NUMBERS, latency_text
from smnas_optuna.report.uncertainty import in_brackets, interval_of
from smnas_optuna.study.record import TrialRecord

MOST_OTHERS = 120
"""Dominated detectors that have a panel, those with the highest AP."""
Kind = Literal["front", "baseline", "other", "beyond"]
"""On the front, a baseline off it, dominated, or trained beyond a limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PagePoint:
    """A trained detector on the page.

    Attributes:
        record: Its training in the search.
        name: Number on the front from 1, fastest first; ``b1`` and so on for other baselines; empty for the others.
        kind: Its place.
        stage: Number of the stage that trained it.
        spread: Standard deviation of its AP over seeds, in [0, 1]; None if that is not known.
        has_panel: True if the page has a panel of it: a page must not grow with thousands of dominated trials.
    """

    record: TrialRecord
    name: str
    kind: Kind
    stage: str
    spread: float | None
    has_panel: bool = True

    @property
    def arch(self) -> str:
        """Canonical string of the architecture."""
        return str(self.record.arch)

    @property
    def ms(self) -> float:
        """Latency of one image, in ms, as the front counts it."""
        return self.record.latency_ms or 0.0

    @property
    def ap(self) -> float:
        """AP on the validation images x100."""
        return 100 * (self.record.ap or 0.0)

    @property
    def interval_ms(self) -> tuple[float, float]:
        """Ends of the 95 % interval of the latency; both are ``ms`` if none is stored."""
        latency = self.record.latency
        return (self.ms, self.ms) if latency is None else (latency.low_ms, latency.high_ms)

    @property
    def named(self) -> bool:
        """True for members of the front and for baselines, which have a whole panel."""
        return bool(self.name)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """COCO's metrics of its training, in [0, 1]; null where there was nothing to measure."""
        metrics: Mapping[str, Any] = self.record.attrs.get("metrics", {})
        return metrics

    @property
    def anchor(self) -> str:
        """Fragment of the page's address that opens its panel."""
        return f"arch={self.arch}"

    @property
    def title(self) -> str:
        """A few words: ``2 · AP 20.3 at 3.37 ms``."""
        return f"{self.name} · {self.numbers}" if self.name else self.numbers

    @property
    def numbers(self) -> str:
        """AP and latency in words."""
        return f"AP {self.ap:.1f} at {latency_text(self.record)} ms"

    @property
    def origin(self) -> str:
        """Where it comes from, in words: ``stage 1, baseline, on the front``."""
        place = {"front": "on the front", "baseline": "", "other": "dominated", "beyond": "beyond a limit"}[self.kind]
        parts = (f"stage {self.stage}", "baseline" if self.record.baseline else "", place)
        return ", ".join(part for part in parts if part)

    @property
    def words(self) -> str:
        """The architecture in words; its string if it names none."""
        return words_of(self.arch)

    @property
    def said(self) -> list[str]:
        """The lines that are said of it when it is pointed at."""
        interval = in_brackets(interval_of(self.record.attrs.get("metrics")))
        spread = "" if self.spread is None else f", {100 * self.spread:.1f} over seeds"
        uncertain = [f"AP 95 % interval{interval}{spread}"] if interval else []
        return [f"{self.title} · {self.origin}", *uncertain, self.words]


@cache
def words_of(arch: str) -> str:
    """Return an architecture in words; the string itself if it names none."""
    try:
        return describe(decode(arch))
    except ArchError:
        return arch


def page_points(summary: Summary, spread: float | None) -> list[PagePoint]:
    """Return the trained detectors whose APs compare: those of the front, other baselines, and all others.

    Args:
        summary: The study.
        spread: Standard deviation of AP over seeds, in [0, 1].
    """
    members = {(record.study, record.number): str(place) for place, record in enumerate(summary.front, start=1)}
    trained = [record for record in summary.compared if record.trained]
    off = [each for each in trained if each.baseline and (each.study, each.number) not in members]
    off.sort(key=lambda record: record.latency_ms or 0.0)
    names = members | {(record.study, record.number): f"b{place}" for place, record in enumerate(off, start=1)}

    def point(record: TrialRecord) -> PagePoint:
        key = record.study, record.number
        kind: Kind = "baseline" if key in names else "other"
        if key in members:
            kind = "front"
        elif not record.feasible:
            kind = "beyond"
        return PagePoint(
            record=record,
            name=names.get(key, ""),
            kind=kind,
            stage=STAGE_NUMBERS[stage_of(record)],
            spread=spread,
        )

    points = sorted(map(point, trained), key=_order)
    others = sorted((each for each in points if not each.named), key=lambda each: -each.ap)
    unseen = {id(each) for each in others[MOST_OTHERS:]}
    return [replace(each, has_panel=False) if id(each) in unseen else each for each in points]


def _order(point: PagePoint) -> tuple[int, float, float]:
    return ("front", "baseline", "other", "beyond").index(point.kind), point.ms, point.ap


def members_of(points: Sequence[PagePoint]) -> list[PagePoint]:
    """Return the members of the front among ``points``, fastest first."""
    return [point for point in points if point.kind == "front"]
