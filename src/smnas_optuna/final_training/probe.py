"""Time of a training, from a few of its steps on this machine, or from what the search took elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from statistics import fmean

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.graphs import WARM_UP_CALLS as RECORDED_AFTER
from smnas_optuna.engine.memory import release_memory
from smnas_optuna.engine.train import Training
from smnas_optuna.final_training.schedule import Pace
from smnas_optuna.models import Detector
from smnas_optuna.session.prepare import Session
from smnas_optuna.session.resumable import fitting_images
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.took import took

PROBE_S, TIMED_STEPS = 3.0, 3
"""Steps are timed for so long, and so many at least."""
MEASUREMENTS = 2
"""Assumed rounds of the measurement of the latency at the end; a noisy one is repeated."""


class _Parts:
    """The parts of ``batches`` that this process trains on."""

    def __init__(self, batches: BatchSource, ranks: Ranks) -> None:
        self._batches, self._ranks = batches, ranks

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """See :class:`smnas_optuna.batch.BatchSource`."""
        return map(self._ranks.part, self._batches.epoch(index, start))


class _Enough(Exception):  # noqa: N818  # an event, not an error
    """Enough steps are timed."""


def measure_pace(
    session: Session,
    spec: DetectorSpec,
    seed: int,
    record: TrialRecord | None,
    *,
    with_val: bool,
    ranks: Ranks | None = None,
) -> Pace:
    """Return the likely seconds of a training in this process.

    Args:
        session: Data, device and settings.
        spec: Architecture of the detector.
        seed: Seed of the training.
        record: Trial of its training in the search, which tells the seconds of an evaluation. Without one the detector
            is evaluated.
        with_val: True if the validation images are trained on, and the training is never evaluated on them.
        ranks: Processes that share each batch; the time of this one's part is measured.
    """
    testbed = session.testbed.with_val if with_val else session.testbed
    batches = testbed.train_batches(spec.input_size, seed)
    parts = batches if ranks is None else _Parts(batches, ranks)
    step_s, evaluation_s = _probe(session, spec, testbed.build(spec, seed), parts, record, recorded=ranks is None)
    release_memory()
    return _pace(session, step_s * len(batches), evaluation_s, with_val=with_val)


def searched_pace(session: Session, arch: str, *, with_val: bool) -> Pace | None:
    """Return the likely seconds of a training of ``arch`` where the search has trained; None if no trial tells.

    An architecture that the search has not trained is expected to take as long as the others do in the mean.

    Args:
        session: Data and settings.
        arch: Canonical string of the architecture.
        with_val: See :func:`measure_pace`.
    """
    records, splits = session.folder.records(), session.testbed.splits
    timed = [(str(record.arch), each) for record in records if (each := took(record, records)) is not None]
    told = [each for its_arch, each in timed if its_arch == arch] or [each for _, each in timed]
    if not told:
        return None
    epoch_s, images = fmean(each.epoch_s for each in told), len(splits.train.images)
    if with_val:
        epoch_s *= (images + len(splits.val.images)) / images
    return _pace(session, epoch_s, fmean(each.evaluation_s for each in told), with_val=with_val)


def _pace(session: Session, epoch_s: float, evaluation_s: float, *, with_val: bool) -> Pace:
    splits = session.testbed.splits
    end_s = 0.0 if splits.test is None else evaluation_s * len(splits.test.images) / len(splits.val.images)
    return Pace(
        epoch_s=epoch_s,
        evaluation_s=0.0 if with_val else evaluation_s,
        end_s=end_s + MEASUREMENTS * session.settings.latency.max_seconds,
    )


def _probe(
    session: Session,
    spec: DetectorSpec,
    probe: Detector,
    batches: BatchSource,
    record: TrialRecord | None,
    *,
    recorded: bool,
) -> tuple[float, float]:
    """Return the seconds of a training step and of an evaluation on the validation images."""
    testbed = session.testbed
    step_s = _step_s(session, spec, probe, batches, recorded=recorded)
    known = None if record is None else record.attrs.get("seconds", {}).get("evaluate")
    if known is not None:
        return step_s, float(known)
    begin = time.perf_counter()
    testbed.evaluate(probe, testbed.splits.val, testbed.val_batches(spec.input_size), session.step("evaluate"))
    return step_s, time.perf_counter() - begin


def _step_s(session: Session, spec: DetectorSpec, probe: Detector, batches: BatchSource, *, recorded: bool) -> float:
    """Return the seconds of a training step; ``recorded`` if it may be, as it is not among several processes."""
    testbed = session.testbed
    warm_up = 1 + RECORDED_AFTER if testbed.device.type == "cuda" else 1
    epochs = -(-(warm_up + TIMED_STEPS) // len(batches))
    recipe = testbed.settings.train.model_copy(update={"epochs": epochs})
    seconds, begin = list[float](), time.perf_counter()

    def on_step(*_: int) -> None:
        nonlocal begin
        synchronize(testbed.device)
        seconds.append(time.perf_counter() - begin)
        if len(seconds) >= warm_up + TIMED_STEPS and sum(seconds[warm_up:]) >= PROBE_S:
            raise _Enough
        session.stop.check()
        testbed.measurement_lock.pause(session.stop.check)
        begin = time.perf_counter()

    micro_batch = fitting_images(testbed, probe, spec)
    training = Training(probe, batches, recipe, seed=0, micro_batch=micro_batch, recorded=recorded)
    with suppress(_Enough):
        training.run(on_step=on_step)
    return fmean(seconds[warm_up:])
