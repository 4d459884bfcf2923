"""The choice among candidates: the one that is expected to improve the hypervolume most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.search.surrogate.features import Features
from smnas_optuna.search.surrogate.improvement import Staircase, expected_improvement, staircase
from smnas_optuna.search.surrogate.latency import LatencySurrogate
from smnas_optuna.search.surrogate.observations import OWN_TASK, Observation, observations_of, pending_of, task_columns
from smnas_optuna.search.surrogate.regression import Surrogate
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import REFERENCE_SLACK
from smnas_optuna.study.record import TrialRecord

Array = NDArray[np.float64]

MIN_TRAINED = 4
"""Trainings without which nothing is predicted."""
REFIT_EVERY = 8
"""Trainings after which hyperparameters are fitted again."""
MAX_POINTS = 200
"""Trainings that the surrogate of AP learns from. The time of a fit grows with the cube of their number."""
FAR = 4
"""Random candidates that the one least like the known ones is taken of, while nothing can be predicted yet. Of 64 it
would always be an extreme one, and most extremes are useless."""
TIMED = 5
"""Candidates that are timed for one proposal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Forecast:
    """Mean and standard deviation of log latency and AP of each candidate, and the front that they would improve."""

    log_latency: tuple[Array, Array]
    ap: tuple[Array, Array]
    front: Staircase

    def gains(self) -> Array:
        return expected_improvement(self.front, self.log_latency, self.ap)


class Ranking:
    """Chooses among untried architectures by the expected improvement of the hypervolume within the limits.

    AP is a Gaussian process whose predictions have the noise of a training in them: the next training is judged by what
    it may measure, so that chance is explored, too. Trainings in flight count as if they had given what is predicted
    (Ginsbourger et al. 2010, "kriging believer").

    Args:
        features: Describes architectures, and counts their parameters.
        ap_spread: Standard deviation of AP over seeds, in [0, 1].
        limits: Limits in force.
        time_gate: Times an architecture before training: its latency as a ratio to the reference detector's. An
            OutOfMemoryError or RuntimeError leaves the architecture with its predicted latency.
        worth_timing: Returns whether timing ``TIMED`` candidates is worth its time, after these trials.
        earlier: Returns observations of other tasks or studies.
        seed: Seed of the choice of points where there are too many.
    """

    def __init__(
        self,
        features: Features,
        *,
        ap_spread: float,
        limits: Limits,
        time_gate: Callable[[DetectorSpec], float] | None = None,
        worth_timing: Callable[[Sequence[TrialRecord]], bool] = lambda _: True,
        earlier: Callable[[], Iterable[Observation]] = list,
        seed: int = 0,
    ) -> None:
        self._features, self._limits = features, limits
        self._time_gate, self._worth_timing, self._earlier = time_gate, worth_timing, earlier
        self._random = np.random.default_rng(seed)
        self._ap = Surrogate(ap_spread)
        self._latency = LatencySurrogate(features)
        self._fitted_at = -REFIT_EVERY

    def choose(self, candidates: Sequence[DetectorSpec], records: Sequence[TrialRecord]) -> DetectorSpec | None:
        """Return the best of ``candidates``; None if nothing can be said about them, or none can gain anything.

        Args:
            candidates: Untried architectures, each once.
            records: Trials of this study, and of the others in the same unit of latency.
        """
        candidates = self._within_limits(candidates)
        forecast = self._forecast(candidates, records)
        if forecast is None:
            return None
        gains = forecast.gains()
        if self._time_gate is not None and self._worth_timing(records):
            best = np.argsort(-gains, kind="stable")[:TIMED]
            specs = [candidates[place] for place in best]
            for spec in specs:
                self._time(spec)
            gains = np.full(len(candidates), -np.inf)
            gains[best] = expected_improvement(
                forecast.front, self._latency.predict(specs), (forecast.ap[0][best], forecast.ap[1][best])
            )
        return candidates[int(np.argmax(gains))] if gains.max() > 0 else None

    def gains(
        self, candidates: Sequence[DetectorSpec], records: Sequence[TrialRecord], believed: Sequence[DetectorSpec] = ()
    ) -> Array | None:
        """Return the expected gain of hypervolume by each candidate, Array[N]; None if nothing can be said.

        Latencies end at the limit or, without one, a tenth beyond the slowest training: not where the slowest candidate
        puts the end, as in :meth:`choose`. Else whoever offers the slowest detectors would promise most. Nor is the
        noise of a training a gain here: it would promise the same everywhere, and most where steps of the front are
        wide.

        Args:
            candidates: Untried architectures. One with more parameters than allowed gains nothing.
            records: Trials of all studies in the same unit of latency.
            believed: Architectures that count as if they had given what is predicted for them.
        """
        within = self._within_limits(candidates)
        forecast = self._forecast(within, records, believed, beyond_known=False)
        if forecast is None:
            return None
        mean, deviation = forecast.ap
        without_noise = np.sqrt(np.maximum(deviation**2 - self._ap.noise**2, 0.0))
        gains = expected_improvement(forecast.front, forecast.log_latency, (mean, without_noise))
        gain = dict(zip(within, gains, strict=True))
        return np.array([gain.get(spec, 0.0) for spec in candidates])

    def farthest(self, candidates: Sequence[DetectorSpec], records: Sequence[TrialRecord]) -> DetectorSpec:
        """Return that of the first ``FAR`` candidates which is least like anything known; the others give the scale."""
        known = [*(each.spec for each in observations_of(records)), *pending_of(records)]
        described = self._features([*candidates, *known])
        width = np.ptp(described, axis=0)
        scaled = described / np.where(width > 0, width, 1.0)
        rows, known_rows = scaled[: min(FAR, len(candidates))], scaled[len(candidates) :]
        away = np.linalg.norm(rows[:, None] - known_rows[None], axis=2).min(axis=1, initial=np.inf)
        return candidates[int(np.argmax(away))]

    def _forecast(
        self,
        candidates: Sequence[DetectorSpec],
        records: Sequence[TrialRecord],
        believed: Sequence[DetectorSpec] = (),
        *,
        beyond_known: bool = True,
    ) -> _Forecast | None:
        """Return what is predicted for ``candidates``; None if there is too little to learn from."""
        observed = [*observations_of(records), *self._earlier()]
        trained = [each for each in observed if each.ap is not None and each.latency_ms is not None]
        own = [each for each in trained if each.task == OWN_TASK]
        if not candidates or len(own) < MIN_TRAINED or len({each.ap for each in own}) == 1:
            return None
        pending = [*pending_of(records), *believed]
        everything = [*candidates, *pending]
        refit = len(trained) - self._fitted_at >= REFIT_EVERY
        if refit:
            self._fitted_at = len(trained)
        try:
            self._latency.fit(observed, everything, refit=refit)
            log_latency = self._latency.predict(everything)
            reference = self._reference(own, np.exp(log_latency[0]) if beyond_known else np.zeros(1))
            points = self._points(trained, own, reference)
            ap = self._predict_ap(points, everything, refit=refit)
            if pending:
                # Fantasies: the hyperparameters stay, the mean stays, and the neighbours become more certain.
                means = zip(pending, ap[0][len(candidates) :], strict=True)
                points = [*points, *(Observation(spec=spec, ap=float(mean)) for spec, mean in means)]
                ap = self._predict_ap(points, everything, refit=False)
        except (ValueError, np.linalg.LinAlgError):  # nothing that the kernels can be fitted to
            return None
        count = len(candidates)
        return _Forecast(
            log_latency=(log_latency[0][:count], log_latency[1][:count]),
            ap=(ap[0][:count], ap[1][:count]),
            front=self._front(own, np.exp(log_latency[0][count:]), ap[0][count:], reference),
        )

    def _within_limits(self, candidates: Sequence[DetectorSpec]) -> list[DetectorSpec]:
        """Return the candidates that have no more parameters than allowed."""
        most = self._limits.max_params
        return [spec for spec in candidates if most is None or self._features.work(spec).num_params <= most]

    def _reference(self, own: Sequence[Observation], predicted: Array) -> float:
        """Return the latency that is just worthless: the limit, or a tenth more than the slowest."""
        if self._limits.max_latency_ms is not None:
            return self._limits.max_latency_ms
        return REFERENCE_SLACK * max([float(predicted.max()), *(each.latency_ms or 0.0 for each in own)])

    def _predict_ap(
        self, points: Sequence[Observation], specs: Sequence[DetectorSpec], *, refit: bool
    ) -> tuple[Array, Array]:
        tasks = sorted({each.task for each in points} - {OWN_TASK})
        inputs = np.hstack(
            [self._features(each.spec for each in points), task_columns([p.task for p in points], tasks)]
        )
        pool = np.hstack([self._features(specs), np.zeros((len(specs), len(tasks)))])
        self._ap.fit(inputs, np.array([each.ap for each in points]), pool, refit=refit)
        return self._ap.predict(pool)

    def _front(self, own: Sequence[Observation], latencies: Array, aps: Array, reference: float) -> Staircase:
        most = self._limits.max_params
        kept = [each for each in own if most is None or self._features.work(each.spec).num_params <= most]
        return staircase(
            np.concatenate([[each.latency_ms or 0.0 for each in kept], latencies]),
            np.concatenate([[each.ap or 0.0 for each in kept], aps]),
            reference,
        )

    def _points(
        self, trained: Sequence[Observation], own: Sequence[Observation], reference: float
    ) -> list[Observation]:
        """Return at most ``MAX_POINTS`` trainings: half of them those nearest to the front, the others at random."""
        if len(trained) <= MAX_POINTS:
            return list(trained)
        edges, levels = self._front(own, np.empty(0), np.empty(0), reference)

        def lag(each: Observation) -> float:
            place = np.searchsorted(edges[1:-1], each.latency_ms or 0.0, side="right")
            return float(levels[place]) - (each.ap or 0.0)

        ordered = sorted(trained, key=lambda each: (each.task != OWN_TASK, lag(each)))
        half = MAX_POINTS // 2
        others = self._random.choice(len(ordered) - half, MAX_POINTS - half, replace=False)
        return [*ordered[:half], *(ordered[half + int(place)] for place in sorted(others))]

    def _time(self, spec: DetectorSpec) -> None:
        assert self._time_gate is not None
        if not self._latency.is_timed(spec):
            try:
                self._latency.add_timing(spec, self._time_gate(spec))
            except (OutOfMemoryError, RuntimeError):
                return
