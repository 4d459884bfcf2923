"""Verdict on a search from retrainings of its detectors; pure functions, no torch."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smnas_optuna.study.pareto import contributions
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.verify.statistics import (
    SIGNIFICANCE,
    Spread,
    chance_of_difference,
    chance_of_same_order,
    kendall_tau,
    pooled_spread,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An architecture to be retrained.

    Attributes:
        record: Its training in the search, with the latency that the front shows.
        on_front: True if it is a front member.
        baseline: True if the study names it as a baseline.
    """

    record: TrialRecord
    on_front: bool
    baseline: bool

    @property
    def arch(self) -> str:
        """Canonical string of the architecture."""
        return str(self.record.arch)

    @property
    def latency_ms(self) -> float:
        """Latency of one image, in ms."""
        return self.record.latency_ms or 0.0

    @property
    def search_ap(self) -> float:
        """AP of its one training in the search, on the validation images, in [0, 1]."""
        return self.record.ap or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A training whose weights are kept.

    Attributes:
        folder: Folder of the weights, relative to the study folder.
        number: Number of the seed.
        epochs: Epochs of the training.
        ap: AP on the validation images, in [0, 1].
    """

    folder: str
    number: int
    epochs: int
    ap: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A candidate and the results of its retrainings.

    Attributes:
        candidate: The architecture.
        aps: AP on the validation images of each finished training, in the order of the seeds, in [0, 1].
        test_aps: AP on the test images, likewise; empty if the data has none.
        failed: Number of trainings that diverged.
        interval: Ends of a 95 % interval of the mean for other validation images, in [0, 1]; None for many images.
        test_interval: That of the mean on the test images.
        weights: The training whose weights are kept: the best one on the validation images; None if none is.
    """

    candidate: Candidate
    aps: tuple[float, ...]
    test_aps: tuple[float, ...]
    failed: int
    interval: tuple[float, float] | None = None
    test_interval: tuple[float, float] | None = None
    weights: Kept | None = None

    @property
    def mean(self) -> float | None:
        """Mean AP on the validation images; None before a training is finished."""
        return _mean(self.aps)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of AP over the seeds, on the validation images; None with fewer than two."""
        return _deviation(self.aps)

    @property
    def test_mean(self) -> float | None:
        """Mean AP on the test images; None without any."""
        return _mean(self.test_aps)

    @property
    def test_deviation(self) -> float | None:
        """Standard deviation of AP over the seeds, on the test images; None with fewer than two."""
        return _deviation(self.test_aps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """Two neighbours along the front: in the search the slower one had the higher AP.

    Attributes:
        faster: Architecture of the faster one.
        slower: Architecture of the slower one.
        difference: Mean AP of the slower one minus mean AP of the faster one.
        chance: Probability that chance alone makes as large a difference, in [0, 1]; None if no spread is known.
    """

    faster: str
    slower: str
    difference: float
    chance: float | None

    @property
    def holds(self) -> bool:
        """True if the order of the means is the search's."""
        return self.difference > 0

    @property
    def beyond_noise(self) -> bool | None:
        """True if the means differ, in either direction, by more than chance explains; None if that is not known."""
        return None if self.chance is None else self.chance < SIGNIFICANCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Verdict on a search.

    Attributes:
        verified: The candidates, fastest first.
        neighbours: Pairs along the front of the retrained front members, fastest first.
        tau: Agreement of the search's AP with the mean AP of the retrainings, over all architectures that have one:
            Kendall's tau-b, in [-1, 1]; None if there is no order to agree on.
        spread: Pooled spread on the validation images: standard deviation of AP over seeds, pooled over the
            architectures. None before all of them have two seeds, because weak ones spread less.
        test_spread: Pooled spread on the test images.
    """

    verified: list[Verified]
    neighbours: list[Neighbours]
    tau: float | None
    spread: Spread | None
    test_spread: Spread | None

    @property
    def num_compared(self) -> int:
        """Number of architectures that ``tau`` compares."""
        return len(_trained(self.verified))

    @property
    def tau_means_something(self) -> bool:
        """True if chance gives the same order of that many more rarely than ``SIGNIFICANCE``: from 5 on."""
        return chance_of_same_order(self.num_compared) < SIGNIFICANCE


def choose_candidates(
    front: Sequence[TrialRecord],
    records: Iterable[TrialRecord],
    baselines: Sequence[str],
    reference: tuple[float, float],
    top: int,
) -> list[Candidate]:
    """Return the front members with the largest hypervolume contributions, and the baselines, fastest first; each once.

    Args:
        front: Front members, fastest first.
        records: All trials; a baseline that was not trained is left out.
        baselines: Architectures of the baselines.
        reference: (latency in ms, AP) that bounds the hypervolume.
        top: Maximum number of front members.
    """
    ranked = sorted(zip(contributions(front, reference), front, strict=True), key=lambda pair: -pair[0])
    on_front = {record.arch for record in front}
    chosen = {record.arch: record for _, record in ranked[:top]}
    for record in records:
        if record.trained and record.arch in baselines:
            chosen.setdefault(record.arch, record)
    candidates = [
        Candidate(record=record, on_front=arch in on_front, baseline=arch in baselines)
        for arch, record in chosen.items()
    ]
    return sorted(candidates, key=lambda candidate: (candidate.latency_ms, candidate.search_ap))


def judge(verified: Sequence[Verified]) -> Verdict:
    """Return the verdict of the trainings; ``verified`` is in the order of latency, fastest first."""
    trained = _trained(verified)
    # The first to have two seeds are the fastest, and as a rule the weakest: their spread is no measure for the others.
    repeated = [each for each in trained if len(each.aps) > 1]
    comparable = repeated if all(each in repeated or each.failed for each in trained) else []
    spread = pooled_spread(each.aps for each in comparable)
    members = [each for each in trained if each.candidate.on_front]
    return Verdict(
        verified=list(verified),
        neighbours=[_compare(*pair, spread) for pair in itertools.pairwise(members)],
        tau=kendall_tau(
            [each.candidate.search_ap for each in trained], [statistics.fmean(each.aps) for each in trained]
        ),
        spread=spread,
        test_spread=pooled_spread(each.test_aps for each in comparable),
    )


def _compare(faster: Verified, slower: Verified, spread: Spread | None) -> Neighbours:
    return Neighbours(
        faster=faster.candidate.arch,
        slower=slower.candidate.arch,
        difference=statistics.fmean(slower.aps) - statistics.fmean(faster.aps),
        chance=None if spread is None else chance_of_difference(faster.aps, slower.aps, spread),
    )


def _trained(verified: Iterable[Verified]) -> list[Verified]:
    return [each for each in verified if each.aps]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
