"""What further trainings of a study's detectors say about its search; pure, no torch."""

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
    """An architecture to be trained again.

    Attributes:
        record: Its training in the search, with the latency that the front shows.
        on_front: Whether it is a member of the front.
        baseline: Whether the study names it as a baseline.
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
        """Of an image, ms."""
        return self.record.latency_ms or 0.0

    @property
    def search_ap(self) -> float:
        """What its one training in the search came to, on the validation images, in [0, 1]."""
        return self.record.ap or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A candidate, and what its further trainings came to.

    Attributes:
        candidate: The architecture.
        aps: AP on the validation images of each finished training, in the order of the seeds, in [0, 1].
        test_aps: The same on the test images; empty if the data has none.
        failed: Trainings that diverged.
    """

    candidate: Candidate
    aps: tuple[float, ...]
    test_aps: tuple[float, ...]
    failed: int

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
        """As ``mean``, on the test images."""
        return _mean(self.test_aps)

    @property
    def test_deviation(self) -> float | None:
        """As ``deviation``, on the test images."""
        return _deviation(self.test_aps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """Two neighbours along the front: in the search the slower one had the higher AP.

    Attributes:
        faster: Architecture.
        slower: Architecture.
        difference: Mean AP of the slower one, less that of the faster.
        chance: How often chance alone makes as large a difference, in [0, 1]; None if no spread is known.
    """

    faster: str
    slower: str
    difference: float
    chance: float | None

    @property
    def holds(self) -> bool:
        """Whether the order of the means is the search's."""
        return self.difference > 0

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the means differ, whichever way, by more than chance explains; None if that cannot be told."""
        return None if self.chance is None else self.chance < SIGNIFICANCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the further trainings say.

    Attributes:
        verified: The candidates, fastest first.
        neighbours: Pairs along the front, of its members that were trained again, fastest first.
        tau: Agreement of the search's AP with the mean of the further trainings, over all that have one: Kendall's
            tau-b, in [-1, 1]; None if there is no order to agree on.
        spread: Standard deviation of AP over seeds, on the validation images, pooled over the architectures; None
            before all of them have two seeds, as weak ones spread less.
        test_spread: The same on the test images.
    """

    verified: list[Verified]
    neighbours: list[Neighbours]
    tau: float | None
    spread: Spread | None
    test_spread: Spread | None

    @property
    def num_compared(self) -> int:
        """Architectures that ``tau`` is of."""
        return len(_trained(self.verified))

    @property
    def tau_means_something(self) -> bool:
        """Whether chance gives the same order of that many more rarely than one calls noise: from 5 on."""
        return chance_of_same_order(self.num_compared) < SIGNIFICANCE


def choose_candidates(
    front: Sequence[TrialRecord],
    records: Iterable[TrialRecord],
    baselines: Sequence[str],
    reference: tuple[float, float],
    top: int,
) -> list[Candidate]:
    """The members of the front that its hypervolume would miss most, and the baselines, fastest first; each once.

    Args:
        front: Its members, fastest first.
        records: All trials; a baseline that was not trained is left out.
        baselines: Architectures.
        reference: (latency in ms, AP) that bounds the hypervolume.
        top: Members of the front, at most.
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
    """What the trainings say; ``verified`` is in the order of latency, fastest first."""
    trained = _trained(verified)
    # The first to have two seeds are the fastest, and as a rule the weakest: their spread is no measure for the others.
    repeated = [each for each in trained if len(each.aps) > 1]
    told = repeated if all(each in repeated or each.failed for each in trained) else []
    spread = pooled_spread(each.aps for each in told)
    members = [each for each in trained if each.candidate.on_front]
    return Verdict(
        verified=list(verified),
        neighbours=[_compare(*pair, spread) for pair in itertools.pairwise(members)],
        tau=kendall_tau(
            [each.candidate.search_ap for each in trained], [statistics.fmean(each.aps) for each in trained]
        ),
        spread=spread,
        test_spread=pooled_spread(each.test_aps for each in told),
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
