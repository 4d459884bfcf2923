"""The joint front: the fronts of both stages, timed again in one run, so that they compare.

Latencies of different runs differ by more than neighbours on a front do.
"""

from __future__ import annotations

from smnas_optuna.arch import decode
from smnas_optuna.engine.checkpoint import load_weights
from smnas_optuna.engine.latency import round_to_noise
from smnas_optuna.errors import CheckpointError
from smnas_optuna.search.request import Request
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.attributes import REFERENCE_MS, TIMED_TOGETHER
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import STRUCTURAL, read_records
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.workers.interrupt import StopRequest


def time_fronts(request: Request, *, listener: Listener, stop: StopRequest) -> None:
    """Time the members of both stages' fronts, one after the other, each in alternation with the reference detector.

    Their latencies are stored with the structural study. Nothing is done if those of all members are stored already.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop; nothing is stored then.
    """
    folder = StudyFolder(request.study_dir)
    with explained_disk_errors(folder.path):
        structural = folder.load(STRUCTURAL)
        modular = [record for study in folder.modular for record in read_records(study)]
        members = [*pareto_front(read_records(structural)), *pareto_front(modular)]
        archs = [str(record.arch) for record in members]
        if not modular or set(archs) <= set(structural.user_attrs.get(TIMED_TOGETHER, {})):
            return
        listener.note(f"timing the fronts of both stages again, in one run: {len(archs)} detectors")
        session = prepare(folder, listener=listener, stop=stop, data_dir=request.data_dir, device=request.device)
        testbed, latencies = session.testbed, dict[str, float]()
        step = step_of("time again", listener, stop)
        for number, record in enumerate(members, start=1):
            arch = str(record.arch)
            spec = decode(arch)
            detector = testbed.build(spec, seed=0)
            try:
                load_weights(folder.run(str(record.stored_arch)), detector)
            except CheckpointError as error:
                listener.note(f"{arch}: cannot be timed again: {error.message}")
                continue
            ratio = testbed.measure_latency(detector, spec.input_size, stop.check).ratio
            rounded = round_to_noise(ratio, testbed.settings.latency.noise)
            latencies[arch] = rounded * float(structural.user_attrs[REFERENCE_MS])
            step(number, len(archs))
        structural.set_user_attr(TIMED_TOGETHER, latencies)
