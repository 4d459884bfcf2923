"""Time of an exported file beside another detector, in alternation, on validation images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from smnas_optuna.allowance import usable_cores
from smnas_optuna.arch import InputSize
from smnas_optuna.engine.device import cpu_threads
from smnas_optuna.engine.latency import measure_latency
from smnas_optuna.models import fold_for_inference
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import open_runner
from smnas_optuna.session.prepare import Session
from smnas_optuna.session.shipped import FileDetector, prepare_for
from smnas_optuna.session.trained import Trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Time for one image, and that of a reference in alternation; lower is better.

    Attributes:
        ms: 10th percentile of the runs.
        reference_ms: That of the reference.
        ratio: Ratio of both.
        threads: CPU threads of both.
    """

    ms: float
    reference_ms: float
    ratio: float
    threads: int


def beside_detector(session: Session, trained: Trained, file: DetectorFile) -> Pace:
    """Time a file beside the detector that it was exported from, which runs in torch as it would ship there."""
    return _beside(session, trained, file, fold_for_inference(trained.module))


def beside_file(session: Session, trained: Trained, file: DetectorFile, reference: DetectorFile) -> Pace:
    """Time a file beside another one."""
    return _beside(session, trained, file, _runs(session, reference))


def _beside(session: Session, trained: Trained, file: DetectorFile, reference: nn.Module) -> Pace:
    testbed, check = session.testbed, session.stop.check
    mine, threads = _runs(session, file), _threads(session)
    images = testbed.timed_images(InputSize(long=trained.module.long, short=trained.module.short))
    for each in (mine, reference):
        prepare_for(each, images)
    with testbed.measurement_lock.exclusive(check), cpu_threads(threads):
        stats = measure_latency(mine, images, reference, images, session.settings.latency, on_step=check)
    return Pace(ms=stats.p10_ms, reference_ms=stats.reference_p10_ms, ratio=stats.ratio, threads=threads)


def _runs(session: Session, file: DetectorFile) -> FileDetector:
    runner = open_runner(file, "onnxruntime", num_threads=_threads(session))
    return FileDetector(lambda _: runner)


def _threads(session: Session) -> int:
    return session.testbed.threads or usable_cores()
