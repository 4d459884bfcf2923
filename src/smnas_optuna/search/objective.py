"""The objective: train an architecture from scratch and measure it; the result is (latency, AP)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Container, Iterable, Sequence

import optuna

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.engine.checkpoint import remove_checkpoint, remove_weights, save_weights
from smnas_optuna.engine.complexity import Complexity, count_complexity
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.latency import LatencyStats, round_to_noise
from smnas_optuna.search.attempt import Attempt
from smnas_optuna.search.gate import Gate
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.pruning.early_stop import prune_behind
from smnas_optuna.search.pruning.over_budget import prune_over_budget
from smnas_optuna.search.pruning.partial_order import prune_dominated
from smnas_optuna.search.pruning.too_slow import prune_slow
from smnas_optuna.search.watching import TrialWatch
from smnas_optuna.session.description import describe_detector
from smnas_optuna.session.executor import Job, TooSlow, Trained
from smnas_optuna.session.prepare import Session
from smnas_optuna.session.samples import keep_samples
from smnas_optuna.study.attributes import ENQUEUED, ORIGIN, REFERENCE_MS, json_values, store_attrs
from smnas_optuna.study.folder import CHECKPOINT_FILE
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import contenders
from smnas_optuna.study.record import INTERRUPTED, TrialRecord, folder_scale, read_records
from smnas_optuna.study.scale import ratio_of
from smnas_optuna.study.settled import trained_share
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.crew import Crew

_PATIENCE = 50
"""Number of times that a worker waits 0.1 s for another worker's first measurement of the reference detector."""


class Objective:
    """Trains, evaluates and times the detector of a trial.

    Args:
        session: Data, device and settings; its listener receives every step.
        crew: The workers of the study.
        limits: Limits in force.
        never_pruned: Architectures that are trained to the end whatever partial-order pruning and rungs say, as a
            standard of comparison.
        other_trials: Returns trials of the folder's other studies, which the pruning rules consider, too.
        trained_otherwise: Returns trials of the folder's other studies that were trained with another recipe. Their APs
            do not compare, so that no rule considers them; their weights are kept.
        forced: Differences from the study's fingerprint that ``--force`` allowed; stored with each trial.
        gate: Has the gate latencies that this process has measured to choose among candidates.
    """

    def __init__(
        self,
        session: Session,
        crew: Crew,
        *,
        limits: Limits,
        never_pruned: Container[DetectorSpec] = (),
        other_trials: Callable[[], list[TrialRecord]] = list,
        trained_otherwise: Callable[[], list[TrialRecord]] = list,
        forced: Sequence[str] = (),
        gate: Gate | None = None,
    ) -> None:
        self.session = session
        self.crew = crew
        self.limits = limits
        self.never_pruned = never_pruned
        self.other_trials = other_trials
        self.trained_otherwise = trained_otherwise
        self.forced = list(forced)
        self.gate = gate or Gate(session)
        self._tidied, self._without_weights = set[int](), set[int]()  # numbers of trials that ``tidy`` is done with

    def __call__(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        """Return both objectives of ``spec``; its weights and log are in the study's ``runs`` folder.

        Raises:
            DivergenceError: If training diverged.
            OutOfMemoryError: If the detector does not fit into memory.
            TrialPruned: If it is over budget, cannot reach the front, or lags far behind at a rung. The budget is
                checked as far as is known before and at the beginning of its training.
            DeviceFault: If the GPU failed, and this process cannot use it any more.
            Interrupted: If asked to stop; the training is stored, and resumed later.
        """
        testbed = self.session.testbed
        attempt = Attempt(self.session, spec, trial)
        if self.forced:
            store_attrs(trial, {"forced": self.forced})
        with (
            attempt.recorded(),
            testbed.measurement_lock.running(self.session.stop.check),
            explained_device_faults(testbed.device),
            explained_out_of_memory(),
        ):
            complexity = self._count(spec)
            store_attrs(trial, {**dataclasses.asdict(complexity), "flops": 2 * complexity.multiply_adds})
            prune_over_budget(trial, self.limits, num_params=complexity.num_params)
            timing = self.gate.take(spec)
            if timing is not None:
                attempt.began_before("gate", timing.seconds)
            with attempt.phase("gate"):
                reference_ms = self._pass_gate(attempt, None if timing is None else timing.stats)
            return self._train_and_measure(attempt, complexity.num_params, reference_ms)

    def _count(self, spec: DetectorSpec) -> Complexity:
        detector = self.session.testbed.build(spec, seed=0)
        return count_complexity(detector, long=spec.input_size.long, short=spec.input_size.short)

    def _train_and_measure(self, attempt: Attempt, num_params: int, reference_ms: float) -> Evaluation:
        testbed = self.session.testbed
        trained = self._train(attempt)
        detector, metrics = trained.detector, trained.metrics["val"]
        with attempt.phase("latency"):
            latency = testbed.measure_latency(detector, attempt.spec, self.session.stop.check)
        results = {
            "metrics": json_values(metrics),
            "latency": testbed.latency_values(latency),
            "skipped_steps": trained.skipped_steps,
        }
        stored_ms = round_to_noise(latency.ratio, testbed.settings.latency.noise) * reference_ms
        study = attempt.trial.study
        on_scale = folder_scale(study).of_study(study.user_attrs).latency(stored_ms, results)
        attempt.write(f"AP {metrics.ap:.4f}, {on_scale.ms:.3f} ms ({on_scale.low_ms:.3f} to {on_scale.high_ms:.3f})")
        self._set_constraints(attempt.trial, on_scale.safe_ms, num_params)
        self.session.folder.make_run(attempt.arch)
        save_weights(attempt.folder, detector, describe_detector(testbed, attempt.arch, results))
        keep_samples(self.session.folder, testbed.splits, attempt.folder, trained.found, attempt.write)
        weights = str(attempt.folder.relative_to(self.session.folder.path))
        return Evaluation(latency_ms=stored_ms, ap=metrics.ap, attrs={**results, "weights": weights})

    def _train(self, attempt: Attempt) -> Trained:
        """Train from the start, or from where an earlier attempt stopped."""
        settings, limits = self.session.settings, self.limits
        job = Job(
            spec=attempt.spec,
            seed=attempt.seed,
            recipe=settings.train,
            checkpoint=attempt.checkpoint,
            key=attempt.key,
            make_folder=lambda: self.session.folder.make_run(attempt.arch),
            rungs=settings.rungs if limits.pruning else (),
            max_seconds=limits.max_seconds,
        )
        watch = TrialWatch(self.session, attempt, lambda epoch, ap: self._pass_rung(attempt, epoch, ap))
        try:
            return self.session.executor.train(job, watch)
        except TooSlow as slow:
            assert limits.max_seconds is not None
            prune_slow(attempt.trial, slow, limits.max_seconds)

    def _set_constraints(self, trial: optuna.Trial, latency_ms: float, num_params: int) -> None:
        """Report to Optuna the excess of the finished detector over each limit, as a share of the limit.

        An excess of 0 or less keeps the limit. It is set only now, because Optuna keeps the first value, and reads
        those of finished trials alone. :func:`smnas_optuna.study.constraints.follow_limits` keeps them to later limits.
        """
        for name, excess in self.limits.excesses(latency_ms=latency_ms, num_params=num_params).items():
            trial.set_constraint(name, excess)
            store_attrs(trial, {f"violation_{name}": excess})

    def tidy(self, records: list[TrialRecord]) -> None:
        """Remove files that ended trials do not need any more: checkpoints, and weights of what is off the front.

        What may be on the front when it is measured again keeps its weights, and what would be on it without limits:
        the study's unit of latency may still change, and limits, too. Anything else stays dominated.
        ``[search] keep_weights = "all"`` keeps the weights of all. An architecture that was trained with two recipes
        has one folder, with the weights of its last training. They stay: it may be on the front of the other stage.
        What is removed once is not looked for again. An architecture that is tried again keeps its checkpoint.
        """
        kept = {each.arch for beyond in (False, True) for each in contenders(records, beyond_limits=beyond)}
        kept |= {record.arch for record in self.trained_otherwise() if record.trained}
        keeps_all = self.session.settings.search.keep_weights != "front"
        going_on = _going_on(records) | _going_on(self.trained_otherwise())
        for record in records:
            number, keeps = record.number, not record.trained or keeps_all or record.arch in kept
            if number in self._without_weights or (keeps and number in self._tidied) or not record.settles:
                continue
            if record.arch in going_on:
                continue
            folder = self.session.folder.run(str(record.stored_arch))
            if not self.session.folder.holds(folder):
                continue
            remove_checkpoint(folder / CHECKPOINT_FILE)
            self._tidied.add(number)
            if not keeps:
                remove_weights(folder)
                self._without_weights.add(number)

    def _pass_gate(self, attempt: Attempt, measured: LatencyStats | None) -> float:
        """Prune a detector if its gate latency is reason enough; return the study's constant ``reference_ms``.

        Args:
            attempt: The attempt.
            measured: The gate latency, if this process has measured it to choose the detector.
        """
        trial, spec = attempt.trial, attempt.spec
        gate = measured or self.session.testbed.measure_gate(spec, self.session.stop.check)
        reference_ms = agree_on_reference_ms(trial.study, self.crew, gate.reference_p10_ms)
        store_attrs(trial, {"gate": json_values(gate), "gate_ms": gate.ratio * reference_ms})
        records = read_records(trial.study)  # this trial's own timing of the reference detector included
        known, gate_ms = [*records, *self.other_trials()], records[trial.number].gate_ms
        assert gate_ms is not None
        share = trained_share(known)
        store_attrs(trial, {"expected_latency_ms": share * gate.ratio * reference_ms})
        prune_over_budget(trial, self.limits, latency_ms=share * gate_ms)
        if self.limits.pruning and not self._is_spared(attempt):
            prune_dominated(trial, spec, _own_ratio(trial), known, self.session.settings.search.ap_spread)
        return reference_ms

    def _pass_rung(self, attempt: Attempt, epoch: int, ap: float) -> None:
        """Prune a training at a rung if it lags far behind."""
        if self._is_spared(attempt):
            return
        known, search = [*read_records(attempt.trial.study), *self.other_trials()], self.session.settings.search
        ratio = _own_ratio(attempt.trial)
        prune_behind(attempt.trial, epoch, ap, ratio, known, margin=search.rung_margin, ap_spread=search.ap_spread)

    def _is_spared(self, attempt: Attempt) -> bool:
        """Return whether an attempt is never pruned by comparison: it is a standard, or somebody has enqueued it."""
        return attempt.spec in self.never_pruned or attempt.trial.user_attrs.get(ORIGIN) == ENQUEUED


def _own_ratio(trial: optuna.Trial) -> float:
    """Return the gate latency, as a ratio, by which ``trial`` is ruled out."""
    gate = ratio_of(trial.user_attrs["gate"])
    assert gate is not None
    return gate.least_ms


def agree_on_reference_ms(study: optuna.Study, crew: Crew, measured_ms: float) -> float:
    """Return the constant that latencies of ``study`` are stored in, in ms; ``measured_ms`` if it is not set yet.

    Optuna compares the stored latencies, so it never changes. It may be far off, as it is one measurement of the
    reference detector: what people see is on the scale of :mod:`smnas_optuna.study.scale`.

    If the first measurements of several workers end together, a claim lets one of them set the value.
    """
    for _ in range(_PATIENCE):
        if REFERENCE_MS in study_attrs(study):
            break
        if crew.claim(REFERENCE_MS):
            if REFERENCE_MS not in study_attrs(study):
                study.set_user_attr(REFERENCE_MS, measured_ms)
            crew.release(REFERENCE_MS)
        else:
            time.sleep(0.1)
    else:  # the worker with the claim died, and is not recovered yet
        study.set_user_attr(REFERENCE_MS, measured_ms)
    return float(study_attrs(study)[REFERENCE_MS])


def _going_on(records: Iterable[TrialRecord]) -> set[str | None]:
    """Return the architectures of a study whose training goes on, now or later."""
    found = set[str | None]()
    for record in records:
        if record.state == "running" or record.reason == INTERRUPTED:
            found.add(record.arch)
        elif record.settles:
            found.discard(record.arch)
    return found
