"""The fronts of both stages, timed again in one run, so that they compare."""

from __future__ import annotations

from smnas_optuna.arch import decode
from smnas_optuna.engine.checkpoint import load_weights
from smnas_optuna.engine.latency import round_to_noise
from smnas_optuna.errors import CheckpointError
from smnas_optuna.search.ground import prepare
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.objective import run_folder
from smnas_optuna.search.request import Request
from smnas_optuna.study.attributes import REFERENCE_MS, TIMED_TOGETHER
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import STRUCTURAL, read_records
from smnas_optuna.study.storage import explained_disk_errors


def time_fronts(request: Request, *, listener: Listener, stop: StopRequest) -> None:
    """Time the members of both stages' fronts, one after the other, each in alternation with the reference detector.

    Their latencies are kept with the structural study; nothing is done if those of all members are there already.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop; nothing is kept then.
    """
    with explained_disk_errors(request.study_dir):
        structural = StudyFolder(request.study_dir).load(STRUCTURAL)
        modular = [record for study in StudyFolder(request.study_dir).modular for record in read_records(study)]
        members = [*pareto_front(read_records(structural)), *pareto_front(modular)]
        archs = [str(record.arch) for record in members]
        if not modular or set(archs) <= set(structural.user_attrs.get(TIMED_TOGETHER, {})):
            return
        listener.note(f"timing the fronts of both stages again, in one run: {len(archs)} detectors")
        ground = prepare(request, None, listener, stop)
        bench, latencies = ground.bench, dict[str, float]()
        step = step_of("time again", listener, stop)
        for number, arch in enumerate(archs, start=1):
            spec = decode(arch)
            detector = bench.build(spec, seed=0)
            try:
                load_weights(run_folder(request.study_dir, arch), detector)
            except CheckpointError as error:
                listener.note(f"{arch}: cannot be timed again: {error.message}")
                continue
            ratio = bench.measure_latency(detector, spec.input_size, stop.check).ratio
            rounded = round_to_noise(ratio, bench.settings.latency.noise)
            latencies[arch] = rounded * float(structural.user_attrs[REFERENCE_MS])
            step(number, len(archs))
        structural.set_user_attr(TIMED_TOGETHER, latencies)
