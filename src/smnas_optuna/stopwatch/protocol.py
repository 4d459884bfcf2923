"""Time of one run, as a ratio to a reference that is timed in alternation.

In new processes the medians of the same network differ by up to 65 % in torch; its ratio to another network timed in
alternation differs by a third to a fifth of that (2 CPU cores, ``benchmarks/latency_noise.py``; in ONNX Runtime both
differ alike). So short blocks of runs of the candidate and of the reference alternate. Disturbances only lengthen a
run, and affect networks differently, so the ratio of the 10th percentiles is compared (``benchmarks/README.md``
compares it with the ratio of medians).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from smnas_optuna.stopwatch.statistics import GROUPS, MIN_PAIRS, Pair, decile, estimate_ratio, relative_width, runs_of

WARM_UP_RUNS = 10
"""Smallest number of runs of a warm-up that counts as complete."""
WARM_UP_WINDOW = 5
WARM_UP_DRIFT = 0.02
"""The warm-up is complete when the medians of the last two windows of ``WARM_UP_WINDOW`` runs differ by less than this
share."""
WARM_UP_SHARE = 0.2
"""Largest share of the time limit for the warm-up of both contenders, but at least 2 runs of each."""
BLOCK_RUNS = 5
"""Largest number of runs in a block. Few, so that a disturbance affects both blocks of a pair, but enough that the
first run, which finds the other detector's data in the caches, does not dominate (``benchmarks/README.md``)."""
ROUNDS = 3
"""Largest number of times that a measurement is repeated, the first included, until its interval is acceptable."""
Run = Callable[[], object]
"""One run of a contender, on one image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatioStats:
    """Times of one run; lower is better.

    Attributes:
        ratio: ``p10_ms`` / ``reference_p10_ms``.
        ratio_low: Lower end of the 95 % confidence interval of the ratio of a group of blocks, or ``ratio`` if lower.
        ratio_high: Upper end of that interval, or ``ratio`` if higher.
        median_ms: Median of all runs of the candidate in this process.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        reference_median_ms: Median of all runs of the reference in this process.
        reference_p10_ms: 10th percentile.
        reference_p90_ms: 90th percentile.
        num_runs: Number of timed runs of the candidate.
        num_blocks: Number of pairs of blocks.
        warm: True if the warm-up of both was complete when timing began.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    median_ms: float
    p10_ms: float
    p90_ms: float
    reference_median_ms: float
    reference_p10_ms: float
    reference_p90_ms: float
    num_runs: int
    num_blocks: int
    warm: bool


def elapsed_ms(run: Run) -> float:
    """Return how long ``run`` takes, ms."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """The rules of a measurement.

    Timing ends when every image has been timed and the confidence interval of the ratio is at most ``precision`` wide
    (relative to the ratio), or at the time limit. If the interval is wider than acceptable then, it is timed again, up
    to ``ROUNDS`` times. The runs that count are those of the round with the narrowest interval, or of all rounds
    together if theirs is narrower: a disturbance may end, or last.

    Attributes:
        precision: Width of the interval at which timing ends.
        max_seconds: Time limit of each round, warm-up apart; to keep to it, blocks become shorter, but there are never
            fewer than ``MIN_PAIRS`` pairs.
        acceptable: Largest width of the interval with which the result is not timed again.
        on_repeat: Called before each further round; may wait for a disturbance to end.
        on_step: Called after each run; may raise to stop.
        time_ms: Returns how long a run takes, ms; it waits for devices that work on their own.
        now: Returns the time, seconds.
    """

    precision: float
    max_seconds: float
    acceptable: float = math.inf
    on_repeat: Callable[[], None] = lambda: None
    on_step: Callable[[], None] = lambda: None
    time_ms: Callable[[Run], float] = elapsed_ms
    now: Callable[[], float] = time.perf_counter

    def measure(self, runs: Sequence[Run], reference_runs: Sequence[Run]) -> RatioStats:
        """Time a candidate against a reference.

        Args:
            runs: Runs of the candidate, one for each image, which are cycled through; at least one.
            reference_runs: Runs of the reference on the same images.
        """
        contenders = (runs, reference_runs)
        warm_ups = [self._warm_up(each) for each in contenders]
        length = block_length(sum(ms for ms, _ in warm_ups), len(runs), self.max_seconds)
        rounds = [self._take_turns(contenders, length)]
        blocks = rounds[0]
        while relative_width(blocks) > self.acceptable and len(rounds) < ROUNDS:
            self.on_repeat()
            rounds.append(self._take_turns(contenders, length))
            blocks = min([*rounds, [pair for each in rounds for pair in each]], key=relative_width)
        return ratio_stats(blocks, warm=all(warm for _, warm in warm_ups))

    def _warm_up(self, runs: Sequence[Run]) -> tuple[float, bool]:
        """Warm up; return the time of a run at the end, ms, and True if the warm-up is complete."""
        start, times, limit = self.now(), list[float](), self.max_seconds * WARM_UP_SHARE / 2
        for run in cycle(runs):
            times.append(self._timed(run))
            last, before = times[-WARM_UP_WINDOW:], times[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW]
            run_ms = statistics.median(last)
            if len(times) >= WARM_UP_RUNS and abs(run_ms / statistics.median(before) - 1) < WARM_UP_DRIFT:
                return run_ms, True
            if len(times) >= 2 and self.now() - start > limit:
                return run_ms, False
        raise AssertionError("there is one image at least")

    def _take_turns(self, contenders: tuple[Sequence[Run], Sequence[Run]], length: int) -> list[Pair]:
        """Return pairs of blocks of ``length`` runs, ms, timed until the ratio is precise enough or the time limit."""
        deadline = self.now() + self.max_seconds
        turns, num_images = [cycle(runs) for runs in contenders], len(contenders[0])
        blocks, known = list[Pair](), False
        while len(blocks) < MIN_PAIRS or not (known or self.now() > deadline):
            mine, its = ([self._timed(run) for run in islice(turn, length)] for turn in turns)
            blocks.append((mine, its))
            if len(blocks) % MIN_PAIRS == 0 and length * len(blocks) >= num_images:  # seldom: it takes time
                known = relative_width(blocks) <= self.precision
        return blocks

    def _timed(self, run: Run) -> float:
        ms = self.time_ms(run)
        self.on_step()
        return ms


def block_length(pair_ms: float, num_images: int, max_seconds: float) -> int:
    """Return the number of runs in a block: at least 1, at most every image once.

    Args:
        pair_ms: Time of a run of the candidate and one of the reference.
        num_images: Number of images.
        max_seconds: Time limit of a round.
    """
    fitting = max_seconds * 1000 / GROUPS / pair_ms
    return max(1, min(BLOCK_RUNS, num_images, int(fitting)))


def ratio_stats(blocks: Sequence[Pair], *, warm: bool) -> RatioStats:
    """Return the statistics of these blocks; see :class:`RatioStats`."""
    low, ratio, high = estimate_ratio(blocks)
    runs, reference_runs = runs_of(blocks)
    return RatioStats(
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        median_ms=statistics.median(runs),
        p10_ms=decile(runs, 1),
        p90_ms=decile(runs, 9),
        reference_median_ms=statistics.median(reference_runs),
        reference_p10_ms=decile(reference_runs, 1),
        reference_p90_ms=decile(reference_runs, 9),
        num_runs=len(runs),
        num_blocks=len(blocks),
        warm=warm,
    )
