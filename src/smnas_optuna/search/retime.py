"""Latencies of a finished study, measured again in one run, so that they compare.

Latencies of different runs differ by more than neighbours on a front do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.engine.checkpoint import WEIGHTS_FILE, load_weights
from smnas_optuna.engine.latency import round_to_noise
from smnas_optuna.errors import CheckpointError, StudyError
from smnas_optuna.models import Detector
from smnas_optuna.search.plan import check_studies
from smnas_optuna.search.request import Request
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.study.attributes import REFERENCE_MS, RETIMED
from smnas_optuna.study.constraints import follow_limits
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import contenders, pareto_front
from smnas_optuna.study.record import STRUCTURAL, TrialRecord, read_records
from smnas_optuna.study.scale import ratio_of
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.interrupt import StopRequest, TimeUp


def retime_fronts(request: Request, *, listener: Listener, stop: StopRequest) -> None:
    """Call :func:`retime` if there are two stages, unless one run has measured the members of both fronts already.

    With a deadline it is stopped at the latest then, and no latency is changed.
    """
    folder = StudyFolder(request.study_dir)
    with explained_disk_errors(request.study_dir):
        stages = _stages(folder)
        members = [member for records in stages for member in pareto_front(records) if _has_weights(folder, member)]
    runs = {member.retimed for member in members}
    if len(stages) > 1 and (len(runs) > 1 or None in runs):
        try:
            with stop.no_later_than(None if request.deadline is None else request.deadline.latest):
                retime(request, listener=listener, stop=stop)
        except TimeUp as up:
            listener.note(f"{up}: no latency was changed; smnas retime {request.study_dir} does it later")


def retime(request: Request, *, listener: Listener, stop: StopRequest) -> None:
    """Measure what may be on the front of either stage again, each in alternation with the reference detector.

    The latencies are stored with the structural study, and take the place of those of the trials. An imprecise one does
    not take the place of a precise one.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used, or no weights are kept.
        Interrupted: If asked to stop; nothing is stored then.
    """
    folder = StudyFolder(request.study_dir)
    with explained_disk_errors(folder.path):
        structural = folder.load(STRUCTURAL)
        records = records_with_weights(folder, listener)
        session = prepare(folder, listener=listener, stop=stop, data_dir=request.data_dir, device=request.device)
        forced = check_studies(session, [], force=request.force)
        listener.note(f"timing again, in one run: {len(records)} detectors")
        latencies = _time_all(session, records, study_attrs(structural).get(REFERENCE_MS))
        marked = {arch: {**latency, "forced": forced} for arch, latency in latencies.items()} if forced else latencies
        if marked:
            structural.set_user_attr(RETIMED, {**study_attrs(structural).get(RETIMED, {}), **marked})
            for study in folder.studies:
                follow_limits(study)


def _time_all(session: Session, records: Sequence[TrialRecord], reference_ms: float | None) -> dict[str, Any]:
    """Return the measured latencies as they are stored, by architecture."""
    testbed, listener, latencies = session.testbed, session.listener, dict[str, Any]()
    step = step_of("time again", listener, session.stop)
    run = datetime.now(UTC).isoformat(timespec="seconds")
    for number, record in enumerate(records, start=1):
        arch = str(record.arch)
        detector = build_trained(session, record)
        if detector is None:
            continue
        spec = decode(arch)
        latency = testbed.latency_values(testbed.measure_latency(detector, spec, session.stop.check))
        ratio, before = ratio_of(latency), record.latency
        assert ratio is not None
        if before is not None and before.precise and not ratio.precise:
            listener.note(f"{arch}: keeps its latency: the new one is imprecise, as the machine is busy")
        else:
            constant_ms = reference_ms or latency["reference_p10_ms"]
            stored_ms = round_to_noise(ratio.ms, testbed.settings.latency.noise) * constant_ms
            latencies[arch] = {**latency, "stored_ms": stored_ms, "run": run}
        step(number, len(records))
    return latencies


def build_trained(session: Session, record: TrialRecord) -> Detector | None:
    """Return the trained detector of a record; None, and a line that says why, if its weights cannot be read."""
    detector = session.testbed.build(decode(str(record.arch)), seed=0)
    try:
        load_weights(session.folder.run(str(record.stored_arch)), detector)
    except CheckpointError as error:
        session.listener.note(f"{record.arch}: cannot be timed again: {error.message}")
        return None
    return detector


def _stages(folder: StudyFolder) -> list[list[TrialRecord]]:
    """Return the trials of each stage that has any."""
    modular = [record for study in folder.modular for record in read_records(study)]
    return [records for records in (read_records(folder.load(STRUCTURAL)), modular) if records]


def records_with_weights(folder: StudyFolder, listener: Listener) -> list[TrialRecord]:
    """Return what may be on a front and has its weights, fastest first; name the members that have not."""
    stages = _stages(folder)
    pool = {record.arch: record for records in stages for record in contenders(records)}
    members = {record.arch: record for records in stages for record in pareto_front(records)}
    found = [record for record in pool.values() if _has_weights(folder, record)]
    if not found:
        raise StudyError(
            f"{folder.path}: nothing can be timed again: of {len(members)} members of the front none has its weights "
            f"in {folder.runs}",
            fix="search first, or bring the folder back",
        )
    for record in members.values():
        if not _has_weights(folder, record):
            listener.note(f"{record.arch}: cannot be timed again, its weights are gone: it keeps its latency")
    return sorted(found, key=lambda record: record.latency_ms or 0.0)


def _has_weights(folder: StudyFolder, record: TrialRecord) -> bool:
    return (folder.run(str(record.stored_arch)) / WEIGHTS_FILE).is_file()
