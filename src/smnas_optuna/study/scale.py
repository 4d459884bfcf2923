"""The scale of a study folder: the only place that turns stored latencies into milliseconds.

A trial stores its latency as a ratio to the reference detector, times ``reference_ms``. That is a constant of its
study, so that Optuna compares like with like: one early measurement, which other work on the machine may have
lengthened. Each later measurement times the reference detector, too. So the unit that people see is estimated from all
measurements of a folder, and of other studies on this machine with the same reference detector
(:mod:`smnas_optuna.study.machine`). Old latencies are rescaled when they are read.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial

from smnas_optuna.arch import canonical
from smnas_optuna.duration import plural
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH
from smnas_optuna.study.attributes import FINGERPRINT, REFERENCE_MS, RETIMED, TIMED_TOGETHER, VERSIONS
from smnas_optuna.study.forms import is_positive
from smnas_optuna.study.machine import ReferenceTime, reference_key, remembered

PART = 16
"""The unit is the lowest of up to 15 measurements, the second lowest of 16 to 31, and so on. Other work only lengthens
a measurement, so a low one is right if few are quiet; the lowest of very many would be too low."""
FEW = 6
"""With fewer measurements of the reference detector the unit is doubtful. A trial has two, one is its gate latency."""
IN_MS = ("gate_ms", "expected_latency_ms")
"""Attributes of a trial in ms of its study's constant."""
LOWEST = 3
SCATTER = 0.1
"""The unit is doubtful if the ``LOWEST`` measurements differ by more than this share: then few or none were quiet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """A measured latency of one image.

    Attributes:
        ms: Best estimate.
        low_ms: Lower end of the 95 % confidence interval; ``ms`` if no interval is stored.
        high_ms: Upper end, likewise.
    """

    ms: float
    low_ms: float
    high_ms: float

    @property
    def precise(self) -> bool:
        """True if the interval is at most ``ACCEPTABLE_WIDTH`` wide."""
        return self.high_ms - self.low_ms <= ACCEPTABLE_WIDTH * self.ms

    @property
    def safe_ms(self) -> float:
        """The latency that a detector is compared by: no detector is fast by luck, so the upper end if imprecise."""
        return self.ms if self.precise else self.high_ms

    @property
    def least_ms(self) -> float:
        """The latency that a detector is ruled out by: none is lost by bad luck, so the lower end if imprecise."""
        return self.ms if self.precise else self.low_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """The time of the reference detector where nothing disturbs it, as far as is known.

    Attributes:
        ms: Estimate.
        num_measurements: Number of measurements that it rests on.
        spread: Difference of the ``LOWEST`` measurements, as a share of the lowest one.
        num_alone: Number of measurements beside which no other work on the machine is known.
    """

    ms: float
    num_measurements: int
    spread: float
    num_alone: int

    @property
    def doubt(self) -> str | None:
        """Reason to doubt the estimate, for people; None if there is none."""
        if self.num_measurements < FEW:
            measurements = plural(self.num_measurements, "measurement")
            return f"it rests on {self.num_measurements} {measurements} of the reference detector"
        if self.num_alone == 0:  # a load that stays lengthens all of them, and alike
            count = self.num_measurements
            return f"other work on the machine disturbed all {count} measurements of the reference detector"
        if self.spread > SCATTER:
            return (
                f"the lowest {LOWEST} of {self.num_measurements} measurements of the reference detector differ by "
                f"{100 * self.spread:.0f} %"
            )
        return None


def estimate_unit(times_ms: Iterable[float], num_alone: int | None = None) -> Unit | None:
    """Return the unit from the 10th percentiles of the reference detector in all measurements; None without any.

    Args:
        times_ms: The percentiles.
        num_alone: Number of measurements that nothing is known to have disturbed; all of them by default.
    """
    ordered = sorted(times_ms)
    if not ordered:
        return None
    spread = ordered[min(LOWEST, len(ordered)) - 1] / ordered[0] - 1
    alone = len(ordered) if num_alone is None else num_alone
    return Unit(ms=ordered[len(ordered) // PART], num_measurements=len(ordered), spread=spread, num_alone=alone)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The scale of all latencies of a study folder; without arguments that of a folder that knows none.

    Attributes:
        unit: The unit; None before the first measurement.
        retimed: Latencies that ``smnas retime`` measured, by architecture, as JSON values: those of
            :class:`smnas_optuna.engine.latency.LatencyStats`, ``stored_ms`` (as a trial's value), and ``run``, which
            all that were measured in one run share. They take the place of those of the trials.
        retimed_by: ``reference_ms`` of the study that stores ``retimed``.
    """

    unit: Unit | None = None
    retimed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retimed_by: float | None = None

    def of_study(self, attrs: Mapping[str, Any]) -> StudyScale:
        """Return the scale of a study with these attributes."""
        return StudyScale(
            factor=self._factor(_positive(attrs.get(REFERENCE_MS))),
            retimed=self.retimed,
            retimed_factor=self._factor(self.retimed_by),
        )

    def _factor(self, reference_ms: float | None) -> float:
        return 1.0 if self.unit is None or reference_ms is None else self.unit.ms / reference_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyScale:
    """The scale of one study of the folder; without arguments the one that it stores.

    Attributes:
        factor: Factor from what its trials store to ms.
        retimed: See :class:`Scale`.
        retimed_factor: Factor from what ``retimed`` stores to ms.
    """

    factor: float = 1.0
    retimed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retimed_factor: float = 1.0

    def _again(self, attrs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what was measured again of the architecture of a trial with these attributes."""
        return self.retimed.get(canonical(str(attrs.get("arch")))) if self.retimed else None

    def latency(self, stored_ms: float, attrs: Mapping[str, Any]) -> Latency:
        """Return the latency of a complete trial with this value and these attributes."""
        again = self._again(attrs)
        if again is not None:
            return _latency(float(again["stored_ms"]) * self.retimed_factor, again)
        return _latency(stored_ms * self.factor, attrs.get("latency"))

    def gate(self, attrs: Mapping[str, Any]) -> Latency | None:
        """Return the gate latency of a trial with these attributes; None if it was not measured."""
        stored_ms = _positive(attrs.get("gate_ms"))
        return None if stored_ms is None else _latency(stored_ms * self.factor, attrs.get("gate"))

    def run_of(self, attrs: Mapping[str, Any]) -> str | None:
        """Return the run in which the architecture of a trial with these attributes was measured again, if it was."""
        again = self._again(attrs)
        return None if again is None else str(again.get("run"))

    def attrs(self, attrs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the attributes of a trial with those on this scale that are in ms, or were measured again."""
        again = self._again(attrs)
        on_scale = {name: ms * self.factor for name in IN_MS if (ms := _positive(attrs.get(name))) is not None}
        return {**attrs, **on_scale, **({} if again is None or "latency" not in attrs else {"latency": again})}


def scale_of(studies: Iterable[tuple[Mapping[str, Any], Iterable[ReferenceTime]]]) -> Scale:
    """Return the scale of a folder with these studies, the structural one first.

    Args:
        studies: The attributes of each, and the times of the reference detector in its trials.
    """
    times, retimed, by = list[ReferenceTime](), dict[str, Mapping[str, Any]](), None
    key = None
    for attrs, measured in studies:
        key = key or reference_key(attrs.get(FINGERPRINT, {}), attrs.get(VERSIONS, {}))
        times += measured
        again = _retimed(attrs)
        for each in again.values():
            times += _reference_times(each, each)
        if again and not retimed:
            retimed, by = again, _positive(attrs.get(REFERENCE_MS))
    times += _of_other_studies(times, remembered(key))
    unit = estimate_unit((time_ms for time_ms, _ in times), sum(alone for _, alone in times))
    return Scale(unit=unit, retimed=retimed, retimed_by=by)


class ReferenceTimes:
    """The times of the reference detector in the trials of one study; those of finished trials are read once.

    Trials that ``--force`` allowed in spite of another device or another reference detector do not count.
    """

    def __init__(self) -> None:
        self._finished = set[int]()
        self._times = list[ReferenceTime]()

    def of(self, trials: Sequence[FrozenTrial]) -> list[ReferenceTime]:
        """Return the times in all ``trials``: those read before, which cannot have changed, come sorted first.

        Args:
            trials: All trials of the study, the latest last.
        """
        running, missing = list[ReferenceTime](), len(trials) - len(self._finished)
        for trial in reversed(trials):
            if missing == 0:  # all earlier ones are finished, and known
                break
            if trial.number in self._finished:
                continue
            missing -= 1
            attrs = trial.user_attrs
            times = _reference_times(attrs, attrs.get("gate"), attrs.get("latency"))
            if not trial.state.is_finished():
                running += times
                continue
            self._finished.add(trial.number)
            for time in times:
                insort(self._times, time)
        return [*self._times, *running]


def ratio_of(measured: object) -> Latency | None:
    """Return a stored measurement with ratios to the reference detector in the place of ms; None if it has none."""
    ratio = _positive(measured.get("ratio")) if isinstance(measured, Mapping) else None
    return None if ratio is None else _latency(ratio, measured)


def _latency(ms: float, measured: object) -> Latency:
    """Return ``ms`` with the interval of ``measured``, relative to its ratio, if it has one that makes sense."""
    values = measured if isinstance(measured, Mapping) else {}
    low, ratio, high = (_positive(values.get(name)) for name in ("ratio_low", "ratio", "ratio_high"))
    if low is None or ratio is None or high is None or not low <= ratio <= high:
        return Latency(ms=ms, low_ms=ms, high_ms=ms)
    return Latency(ms=ms, low_ms=ms * low / ratio, high_ms=ms * high / ratio)


def _reference_times(attrs: Mapping[str, Any], *measured: object) -> Iterator[ReferenceTime]:
    """Yield the time of the reference detector in each measurement, and whether it was alone, as far as is known."""
    if attrs.get("forced") or attrs.get("cached_from") is not None:
        return
    for each in measured:
        time_ms = _positive(each.get("reference_p10_ms")) if isinstance(each, Mapping) else None
        if time_ms is not None and isinstance(each, Mapping):
            yield time_ms, each.get("alone") is not False


def _of_other_studies(own: Sequence[ReferenceTime], kept: Sequence[ReferenceTime]) -> Iterator[ReferenceTime]:
    """Yield the times that this machine has ``kept`` and that are not among the folder's ``own``."""
    known = {time_ms for time_ms, _ in own}
    yield from (each for each in kept if each[0] not in known)


def _retimed(attrs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the latencies measured again in a study with these attributes; up to commit 3dbf8fb they were ms alone."""
    old, new = attrs.get(TIMED_TOGETHER), attrs.get(RETIMED)
    found: dict[str, Mapping[str, Any]] = {}
    if isinstance(old, Mapping):
        found |= {arch: {"stored_ms": ms, "run": TIMED_TOGETHER} for arch, ms in old.items()}
    if isinstance(new, Mapping):
        found |= {arch: each for arch, each in new.items() if isinstance(each, Mapping)}
    return {canonical(arch): each for arch, each in found.items() if _positive(each.get("stored_ms")) is not None}


def _positive(value: object) -> float | None:
    """Return ``value`` if it is a finite number above 0, as a duration is; attributes may hold anything."""
    return float(value) if is_positive(value) else None  # type: ignore[arg-type]
