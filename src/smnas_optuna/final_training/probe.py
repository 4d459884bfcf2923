"""Time of a training, from a few of its steps on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from statistics import fmean

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.data import DetectionLoader
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
    detector: Detector,
    batches: DetectionLoader,
    record: TrialRecord | None,
    *,
    with_val: bool,
    ranks: Ranks | None = None,
) -> Pace:
    """Return the likely seconds of a training of ``detector``, which stays as it is.

    Args:
        session: Data, device and settings.
        spec: Architecture of the detector.
        detector: On the device, untrained.
        batches: Its training images.
        record: Trial of its training in the search, which tells the seconds of an evaluation. Without one a copy of the
            detector is evaluated.
        with_val: True if the training is never evaluated on the validation images.
        ranks: Processes that share each batch; the time of this one's part is measured.
    """
    testbed, val = session.testbed, session.testbed.splits.val
    parts = batches if ranks is None else _Parts(batches, ranks)
    step_s, evaluation_s = _probe(session, spec, copy.deepcopy(detector), parts, record)
    release_memory()
    test = testbed.splits.test
    end_s = 0.0 if test is None else evaluation_s * len(test.images) / len(val.images)
    return Pace(
        epoch_s=step_s * len(batches),
        evaluation_s=0.0 if with_val else evaluation_s,
        end_s=end_s + MEASUREMENTS * session.settings.latency.max_seconds,
    )


def _probe(
    session: Session, spec: DetectorSpec, probe: Detector, batches: BatchSource, record: TrialRecord | None
) -> tuple[float, float]:
    """Return the seconds of a training step and of an evaluation on the validation images."""
    testbed = session.testbed
    step_s = _step_s(session, spec, probe, batches)
    known = None if record is None else record.attrs.get("seconds", {}).get("evaluate")
    if known is not None:
        return step_s, float(known)
    begin = time.perf_counter()
    testbed.evaluate(probe, testbed.splits.val, testbed.val_batches(spec.input_size), session.step("evaluate"))
    return step_s, time.perf_counter() - begin


def _step_s(session: Session, spec: DetectorSpec, probe: Detector, batches: BatchSource) -> float:
    """Return the seconds of a training step."""
    testbed = session.testbed
    warm_up = 1 + RECORDED_AFTER if testbed.device.type == "cuda" else 1
    epochs = -(-(warm_up + TIMED_STEPS) // len(batches))
    recipe = testbed.settings.train.model_copy(update={"epochs": epochs})
    ends = [time.perf_counter()]

    def on_step(*_: int) -> None:
        session.stop.check()
        testbed.measurement_lock.pause(session.stop.check)
        synchronize(testbed.device)
        ends.append(time.perf_counter())
        if len(ends) > warm_up + TIMED_STEPS and ends[-1] - ends[warm_up] >= PROBE_S:
            raise _Enough

    training = Training(probe, batches, recipe, seed=0, micro_batch=fitting_images(testbed, probe, spec))
    with suppress(_Enough):
        training.run(on_step=on_step)
    return fmean(after - before for before, after in pairwise(ends[warm_up:]))
