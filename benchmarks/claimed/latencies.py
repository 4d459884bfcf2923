"""Latencies of the retrained detectors of one data set, measured together in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from smnas_optuna.arch import decode
from smnas_optuna.batch import Batch
from smnas_optuna.engine.checkpoint import load_weights
from smnas_optuna.engine.device import cpu_threads
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.session.timing import measure_alone
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.verify.results import read_results
from smnas_optuna.verify.verification import RESULTS_FILE
from smnas_optuna.verify.weights import kept_weights
from smnas_optuna.workers.interrupt import StopRequest

VALUES = ("ratio", "ratio_low", "ratio_high", "p10_ms", "median_ms", "alone", "warm")


def time_together(
    studies: Sequence[Path], data: Path, archs: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Return ``runtime``, ``device`` and, by architecture, ratios to the first of ``archs`` and milliseconds.

    Args:
        studies: Study folders whose verifications have kept the weights; the first one's settings count.
        data: The data folder.
        archs: Retrained architectures. One whose trainings all diverged is left out.
        say: Receives a line for each.
    """
    listener = Listener()
    testbed = prepare(StudyFolder(studies[0]), listener=listener, stop=StopRequest(), data_dir=data).testbed
    weights = _weights(studies)
    first = _shipped(testbed, archs[0], weights[archs[0]])
    found = dict[str, Any]()
    for arch in archs:
        if arch not in weights:
            continue
        shipped, images = _shipped(testbed, arch, weights[arch])
        with cpu_threads(testbed.threads):
            stats = measure_alone(
                testbed.measurement_lock,
                (testbed.cpu_watch, testbed.watch),
                shipped,
                images,
                first,
                testbed.settings.latency,
                on_step=lambda: None,
            )
        found[arch] = {name: getattr(stats, name) for name in VALUES}
        say(f"{arch}: {stats.p10_ms:.2f} ms, ratio {stats.ratio:.3f}")
    return {"runtime": testbed.runtime, "device": testbed.device_description, "latency": found}


def _weights(studies: Sequence[Path]) -> Mapping[str, Path]:
    """Return the folder of the weights of the best training of each architecture, that of the first study first."""
    found: dict[str, Path] = {}
    for study in studies:
        folder = StudyFolder(study)
        results = read_results(folder.verify / RESULTS_FILE)
        assert results is not None
        for arch, kept in kept_weights(folder, results.runs.values()).items():
            found.setdefault(arch, study / kept.folder)
    return found


def _shipped(testbed: Testbed, arch: str, weights: Path) -> tuple[nn.Module, list[Batch]]:
    spec = decode(arch)
    detector = testbed.build(spec, seed=0)
    load_weights(weights, detector)
    return testbed.shipped(detector, spec)
