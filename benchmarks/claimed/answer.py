"""The answer for one data set: pure numbers, from verifications and from latencies of one run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student

from smnas_optuna.study.pareto import hypervolume, reference_point
from smnas_optuna.verify.statistics import Spread, pooled_spread

HALF, ONE_POINT = 0.5, 0.01
"""The claim: at most this share of the baseline's latency, and at least this much more AP, in [0, 1]."""
CONFIDENCE = 0.95
COMPARABLE = 0.5
"""Only detectors with at least this share of the first baseline's AP tell how far seeds are apart. On BCCD one with AP
11 (x100) had a standard deviation of 4.1, those above 36 had 0.2 to 2.3."""
WAYS = ("baselines", "random search", "stage 1", "both stages")


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrained:
    """A detector with several trainings.

    Attributes:
        arch: Its architecture.
        baseline: True if the study file names it.
        ways: Which of ``WAYS`` found it; a baseline belongs to all.
        ratio: Latency as a ratio to the first baseline's; NaN if it was not timed.
        ratio_low: Lower end of the 95 % interval.
        ratio_high: Upper end.
        ms: Latency, 10th percentile.
        val_aps: AP on the validation images of each training, in [0, 1].
        test_aps: AP on the test images, likewise.
        test_interval: 95 % interval of the mean for other test images.
        failed: Number of trainings that diverged.
        alone: True if, as far as is known, nothing else computed on the machine while it was timed.
    """

    arch: str
    baseline: bool
    ways: tuple[str, ...]
    ratio: float
    ratio_low: float
    ratio_high: float
    ms: float
    val_aps: tuple[float, ...]
    test_aps: tuple[float, ...]
    test_interval: tuple[float, float] | None
    failed: int
    alone: bool = True

    @property
    def val(self) -> float:
        """Mean AP on the validation images."""
        return statistics.fmean(self.val_aps)

    @property
    def test(self) -> float:
        """Mean AP on the test images."""
        return statistics.fmean(self.test_aps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer for one data set.

    Attributes:
        classic: The first baseline of the study file, which the claim is about.
        best: The detector within half of its latency that has the highest mean AP on the validation images; None if
            the search has found none. One of which a training diverged is none.
        difference: AP on the test images of what is chosen so, minus the mean of the classic one. A training counts
            where the other ones choose its detector; so no lucky seed chooses itself.
        margin: Half of the 95 % interval of the difference, from the spread over seeds; NaN if that is not known.
        verdict: The answer in words.
    """

    classic: Retrained
    best: Retrained | None
    difference: float
    margin: float
    verdict: str


def retrained_of(found: Mapping[str, Any]) -> list[Retrained]:
    """Return the retrained detectors of a data set, fastest first; those without a finished training are left out.

    Args:
        found: ``verified``: by way, the ``report/verify.json`` of its verification; ``latency``: see
            :func:`claimed.latencies.time_together`.
    """
    ways, entries, runs = dict[str, list[str]](), dict[str, Any](), dict[str, dict[int, Any]]()
    for way, verified in found["verified"].items():
        for entry in verified["architectures"]:
            entries.setdefault(entry["arch"], entry)
            ways.setdefault(entry["arch"], []).append(way)
            if way == "stage 1":  # whoever runs both has what the first one found
                ways[entry["arch"]].append("both stages")
        for run in verified["runs"]:
            runs.setdefault(run["arch"], {})[run["number"]] = run
    retrained = []
    for arch, entry in entries.items():
        finished = [run for _, run in sorted(runs.get(arch, {}).items()) if run["metrics"] is not None]
        if not finished:
            continue
        latency = found["latency"].get(arch, {})
        low, high = entry["test_ap_low"], entry["test_ap_high"]
        retrained.append(
            Retrained(
                arch=arch,
                baseline=entry["baseline"],
                ways=WAYS if entry["baseline"] else tuple(dict.fromkeys(ways[arch])),
                **{name: latency.get(name, math.nan) for name in ("ratio", "ratio_low", "ratio_high")},
                ms=latency.get("p10_ms", math.nan),
                val_aps=tuple(run["metrics"]["ap"] for run in finished),
                test_aps=tuple(run["test_metrics"]["ap"] for run in finished),
                test_interval=None if low is None or high is None else (low, high),
                failed=entry["failed"],
                alone=latency.get("alone", True),
            )
        )
    return sorted(retrained, key=lambda each: each.ratio)


def comparable(retrained: Sequence[Retrained], classic: str) -> list[Retrained]:
    """Return those that tell how far seeds are apart, see ``COMPARABLE``; all if ``classic`` is not among them."""
    least = next((COMPARABLE * each.val for each in retrained if each.arch == classic), 0.0)
    return [each for each in retrained if each.val >= least]


def spread_of(retrained: Sequence[Retrained], classic: str) -> Spread | None:
    """Return the standard deviation of AP on the test images over seeds, pooled; None if no detector has two."""
    return pooled_spread(each.test_aps for each in comparable(retrained, classic))


def further_seeds(retrained: Sequence[Retrained], classic: str) -> dict[str, tuple[float, float]]:
    """Return, by architecture, the 95 % prediction interval of AP on the test images of one more training, in [0, 1].

    The mean plus and minus t times s sqrt(1 + 1/n), with the pooled spread s. Those that are not ``comparable`` have
    none, and none has one if the spread is not known.
    """
    spread = spread_of(retrained, classic)
    if spread is None:
        return {}
    return {each.arch: _further_seed(each, spread) for each in comparable(retrained, classic)}


def _further_seed(each: Retrained, spread: Spread) -> tuple[float, float]:
    margin = _t(spread) * spread.deviation * math.sqrt(1 + 1 / len(each.test_aps))
    return max(0.0, each.test - margin), min(1.0, each.test + margin)


def answer_of(retrained: Sequence[Retrained], classic: str) -> Answer | None:
    """Return the answer; None if ``classic``, the first baseline, has no finished training."""
    base = next((each for each in retrained if each.arch == classic), None)
    if base is None:
        return None
    found = [each for each in retrained if "both stages" in each.ways and not each.baseline and not each.failed]
    fast = [each for each in found if each.ratio <= HALF]
    if not fast:
        verdict = "no: the search found nothing within half of the latency"
        if any(each.ratio_low <= HALF for each in found):
            verdict += "; what is just above may be within it"
        return Answer(classic=base, best=None, difference=math.nan, margin=math.nan, verdict=verdict)
    best, spread = max(fast, key=lambda each: each.val), spread_of(retrained, classic)
    difference, margin = _test_of_the_chosen(fast) - base.test, math.nan
    if spread is not None:
        counts = 1 / len(best.test_aps) + 1 / len(base.test_aps)
        margin = _t(spread) * spread.deviation * math.sqrt(counts)
    verdict = _verdict(difference, margin)
    if best.ratio_high > HALF or not best.alone:
        verdict += "; whether it takes half of the latency is not sure"
    return Answer(classic=base, best=best, difference=difference, margin=margin, verdict=verdict)


def contributions_of(retrained: Sequence[Retrained]) -> list[tuple[str, float, float, float | None]]:
    """Return (way, hypervolume, best AP, best AP within half of the latency of the classic) of each way.

    All are of mean AP on the test images and of latencies as ratios. The best ones, and the front whose hypervolume it
    is, are chosen by the validation images.
    """
    timed = [each for each in retrained if not math.isnan(each.ratio)]
    reference = reference_point((each.ratio, each.test) for each in timed)
    rows = []
    for way in WAYS:
        own = [each for each in timed if (each.baseline if way == "baselines" else way in each.ways)]
        fast = [each for each in own if each.ratio <= HALF]
        rows.append(
            (
                way,
                hypervolume([(each.ratio, each.test) for each in _front(own)], reference),
                max(own, key=lambda each: each.val).test,
                max(fast, key=lambda each: each.val).test if fast else None,
            )
        )
    return rows


def _test_of_the_chosen(fast: Sequence[Retrained]) -> float:
    """Return the mean AP on the test images of the trainings whose detector the other trainings choose by validation.

    A seed that is lucky on the validation images tends to be so on the test images, too.
    """
    count = min(len(each.val_aps) for each in fast)
    if count == 1:
        return max(fast, key=lambda each: each.val).test

    def chosen_without(place: int) -> Retrained:
        return max(fast, key=lambda each: sum(each.val_aps) - each.val_aps[place])

    return statistics.fmean(chosen_without(place).test_aps[place] for place in range(count))


def _front(timed: Sequence[Retrained]) -> list[Retrained]:
    """Return those that no other one beats in latency and mean AP on the validation images."""
    return [
        each
        for each in timed
        if not any(other.ratio <= each.ratio and other.val > each.val for other in timed if other is not each)
    ]


def _verdict(difference: float, margin: float) -> str:
    if difference - margin >= ONE_POINT:
        return "yes, beyond the noise of the seeds"
    if difference >= ONE_POINT:
        return "yes in the mean, and chance may have made it"
    if difference + margin < ONE_POINT:
        return "no, beyond the noise of the seeds"
    return "no in the mean, and chance may have hidden it"


def _t(spread: Spread) -> float:
    return float(student.ppf(0.5 + CONFIDENCE / 2, spread.freedom))
