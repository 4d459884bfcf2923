"""The front of a finished study on a second device: trained detectors are timed there, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.config import RuntimeChoice
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.search.request import Request
from smnas_optuna.search.retime import build_trained, records_with_weights
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.fingerprint import trained_alike
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL, TrialRecord, read_records
from smnas_optuna.study.scale import Latency
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.workers.interrupt import StopRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedElsewhere:
    """A detector of the study on the second device.

    Attributes:
        arch: Its architecture.
        ap: AP on the validation images, 0..1.
        latency: Latency on the second device.
        here_ms: Latency on the study's own device.
        on_front: True if no other one is at least as fast there and more accurate.
    """

    arch: str
    ap: float
    latency: Latency
    here_ms: float
    on_front: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontElsewhere:
    """All detectors of a study that were timed on a second device, fastest first.

    Attributes:
        device: The device, as :attr:`smnas_optuna.session.testbed.Testbed.device_description` describes it.
        host: Name of the device in its network; empty if it does not say.
        detectors: The detectors.
    """

    device: dict[str, Any]
    host: str
    detectors: list[TimedElsewhere]


def time_elsewhere(
    request: Request, url: str, runtime: RuntimeChoice, *, listener: Listener, stop: StopRequest
) -> FrontElsewhere:
    """Time what may be on a front of the study on the device of the stopwatch at ``url``; the study stays as it is.

    Args:
        request: The study, its data, and the device that builds detectors.
        url: The stopwatch.
        runtime: What runs the exported files there; ``auto`` is ONNX Runtime on its CPU.
        listener: Receives reports.
        stop: Checked between measurements.

    Raises:
        SmnasError: If the data, the study or the stopwatch cannot be used, or no weights are kept.
        Interrupted: If asked to stop.
    """
    folder = StudyFolder(request.study_dir)
    with explained_disk_errors(folder.path):
        records = _of_one_recipe(folder, records_with_weights(folder, listener), listener)
        session = prepare(
            folder,
            listener=listener,
            stop=stop,
            data_dir=request.data_dir,
            device=request.device,
            stopwatch=url,
            runtime=runtime,
        )
        testbed, step = session.testbed, step_of("time elsewhere", listener, stop)
        listener.note(f"timing {len(records)} detectors on {testbed.device_description['model']}")
        measured = list[tuple[str, float, float, LatencyStats]]()
        for number, record in enumerate(records, start=1):
            detector = build_trained(session, record)
            if detector is not None:
                assert record.ap is not None
                stats = testbed.measure_latency(detector, decode(str(record.arch)), stop.check)
                measured.append((str(record.arch), record.ap, record.latency_ms or 0.0, stats))
            step(number, len(records))
    # All were timed in one run against one reference detector, whose quietest moment is the unit.
    unit_ms = min((stats.reference_p10_ms for *_, stats in measured), default=0.0)
    detectors = [
        TimedElsewhere(
            arch=arch,
            ap=ap,
            latency=Latency(
                ms=stats.ratio * unit_ms, low_ms=stats.ratio_low * unit_ms, high_ms=stats.ratio_high * unit_ms
            ),
            here_ms=here_ms,
        )
        for arch, ap, here_ms, stats in measured
    ]
    assert testbed.remote is not None
    return FrontElsewhere(device=testbed.device_description, host=testbed.remote.host, detectors=with_front(detectors))


def _of_one_recipe(folder: StudyFolder, records: Sequence[TrialRecord], listener: Listener) -> Sequence[TrialRecord]:
    """Return ``records``, or those of stage 2 alone if it has another recipe than stage 1: APs do not compare then."""
    structural, modular = folder.structural, folder.modular
    later = {record.arch for study in modular for record in read_records(study) if record.trained}
    if structural is None or not later or all(trained_alike(structural, study) for study in modular):
        return records
    listener.note("stage 1 has another recipe, and AP does not compare: the detectors are those of stage 2")
    return [record for record in records if record.study != STRUCTURAL]


def with_front(detectors: Sequence[TimedElsewhere]) -> list[TimedElsewhere]:
    """Return ``detectors`` fastest first, with the members of their front marked."""
    best, marked = -1.0, list[TimedElsewhere]()
    for each in sorted(detectors, key=lambda each: (each.latency.safe_ms, -each.ap)):
        marked.append(replace(each, on_front=each.ap > best))
        best = max(best, each.ap)
    return marked
