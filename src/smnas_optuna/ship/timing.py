"""Time of an exported file beside another detector, in alternation, on validation images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from smnas_optuna.allowance import usable_cores
from smnas_optuna.arch import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.engine.device import cpu_threads
from smnas_optuna.models import fold_for_inference
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import Runner, open_runner
from smnas_optuna.session.prepare import Session
from smnas_optuna.session.trained import Trained
from smnas_optuna.stopwatch.protocol import Protocol

Runs = Sequence[Callable[[], object]]
"""Runs of a detector, one for each image."""


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
    folded = fold_for_inference(trained.module)

    def runs(images: Sequence[Batch], _: int) -> Runs:
        return [partial(torch.inference_mode()(folded.detect), image) for image in images]

    return _beside(session, trained, _runs_of(file), runs)


def beside_file(session: Session, trained: Trained, file: DetectorFile, reference: DetectorFile) -> Pace:
    """Time a file beside another one."""
    return _beside(session, trained, _runs_of(file), _runs_of(reference))


def _runs_of(file: DetectorFile) -> Callable[[Sequence[Batch], int], Runs]:
    def runs(images: Sequence[Batch], threads: int) -> Runs:
        runner = open_runner(file, "onnxruntime", num_threads=threads)
        prepared = [partial(_run, runner, image) for image in images]
        for run in prepared:  # the first one of each shape builds a session
            run()
        return prepared

    return runs


def _run(runner: Runner, image: Batch) -> object:
    return runner.run(image.images.numpy(), image.sizes.numpy())


def _beside(
    session: Session,
    trained: Trained,
    mine: Callable[[Sequence[Batch], int], Runs],
    reference: Callable[[Sequence[Batch], int], Runs],
) -> Pace:
    testbed, settings = session.testbed, session.settings.latency
    threads = testbed.threads or usable_cores()
    images = testbed.timed_images(InputSize(long=trained.module.long, short=trained.module.short))
    contenders = [each(images, threads) for each in (mine, reference)]

    def on_step() -> None:
        session.stop.check()

    with testbed.measurement_lock.exclusive(on_step), cpu_threads(threads):
        protocol = Protocol(precision=settings.precision, max_seconds=settings.max_seconds, on_step=on_step)
        stats = protocol.measure(*contenders)
    return Pace(ms=stats.p10_ms, reference_ms=stats.reference_p10_ms, ratio=stats.ratio, threads=threads)
