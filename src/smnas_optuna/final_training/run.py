"""A final training: begun or resumed, evaluated on the way, and at its end measured as the search measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings
from smnas_optuna.data import DetectionLoader, train_and_val
from smnas_optuna.duration import format_seconds
from smnas_optuna.engine.checkpoint import remove_checkpoint
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.memory import release_memory
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.alone import alone_at
from smnas_optuna.final_training.conditions import check_study, conditions_of, device_of, refuse_other_request
from smnas_optuna.final_training.expectation import expect
from smnas_optuna.final_training.keep import Keeper
from smnas_optuna.final_training.known import Known
from smnas_optuna.final_training.parallel import in_step
from smnas_optuna.final_training.probe import measure_pace
from smnas_optuna.final_training.processes import check_parallel
from smnas_optuna.final_training.record import Plan, TrainingRecord, missing_files, read_training, write_training
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.final_training.schedule import Pace
from smnas_optuna.final_training.settle import Anew, Settling
from smnas_optuna.models import Detector
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.resumable import ResumableTraining, begin_training
from smnas_optuna.study.fingerprint import differences, refuse_differences
from smnas_optuna.study.folder import CHECKPOINT_FILE, StudyFolder
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.workers.interrupt import StopRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A finished training.

    Attributes:
        name: Its name.
        folder: Folder of its weights.
        record: What was asked for, and what came out.
        before: True if it was finished already, and nothing was trained now.
    """

    name: str
    folder: Path
    record: TrainingRecord
    before: bool


def train_detector(
    request: TrainRequest,
    known: Known,
    *,
    listener: Listener,
    stop: StopRequest,
    ranks: Ranks | None = None,
    threads: int | None = None,
) -> Finished:
    """Train the requested detector to the end, from where an earlier attempt has stopped.

    The recipe is that of stage 2, where ``[modular.train]`` gives it one, as in ``smnas verify``.

    Args:
        request: The request.
        known: What the study knows of the architecture.
        listener: Receives reports.
        stop: Checked at every step.
        ranks: Processes that train together, of which this is number 0; see :mod:`.parallel`.
        threads: CPU threads to train with; all by default.

    Raises:
        SmnasError: If the settings, the data or the device cannot be used or are not those of the study, another
            process is at this training, or there is a training of this name with another request.
        DeviceFault: If the GPU failed; the same command goes on.
        Interrupted: If asked to stop; the same command goes on.
    """
    folder = StudyFolder(request.study_dir)
    settings = load_settings(folder.path).for_modular()
    check_parallel(settings.detector.norm, settings.train.batch_size, 1 if ranks is None else ranks.size)
    name = request.name_for(settings.train.epochs)
    with explained_disk_errors(folder.path), alone_at(folder, name) as place:
        stored, plan = read_training(place), _plan(request, settings.train.epochs)
        if stored is not None:
            refuse_other_request(stored.plan, plan, place)
            plan = stored.plan
            if stored.outcome is not None:
                _check_weights(place)
                remove_checkpoint(place / CHECKPOINT_FILE)  # of a process that died before it could
                if ranks is not None:
                    ranks.announce(None)
                return Finished(name=name, folder=place, record=stored, before=True)
        session = prepare(
            folder,
            listener=listener,
            stop=stop,
            data_dir=request.data_dir,
            device=request.device,
            threads=threads,
            stage="modular",
        )
        if request.with_val and session.testbed.splits.test is None:
            raise StudyError(
                f"{session.data_root}: with --with-val nothing but test images can tell how good the detector is, and "
                "there are none",
                fix='name them: test = "instances_test.json" under [data] in study.toml, or train without --with-val',
            )
        with (
            session.testbed.measurement_lock.running(stop.check),
            explained_device_faults(session.testbed.device),
            explained_out_of_memory(),
        ):
            while True:
                try:
                    record = _train(session, plan, stored, known, place, ranks)
                    break
                except Anew:
                    release_memory()
                    remove_checkpoint(place / CHECKPOINT_FILE)
                    stored = read_training(place)
                    assert stored is not None
                    plan = stored.plan
        return Finished(name=name, folder=place, record=record, before=False)


def _train(
    session: Session,
    plan: Plan,
    stored: TrainingRecord | None,
    known: Known,
    place: Path,
    ranks: Ranks | None,
) -> TrainingRecord:
    """Train to the end, and return what came out."""
    about = conditions_of(session, ranks)
    if stored is None:
        check_study(session)
    else:
        refuse_differences(
            differences(stored.about, about),
            f"{place}: was begun with other",
            verb="its epochs",
            fix="go back to what it was, or begin another training: --name OTHER",
        )
    comparable = session.depends_on["device"] == device_of(session.folder)
    if plan.with_val:
        splits = session.testbed.splits
        both = replace(splits, train=train_and_val(splits))
        session = replace(session, testbed=replace(session.testbed, splits=both))
    spec, listener = decode(plan.arch), session.listener
    detector = session.testbed.build(spec, plan.seed)
    batches = session.testbed.train_batches(spec.input_size, plan.seed)
    untrained = stored is not None and stored.pace is not None and not (place / CHECKPOINT_FILE).exists()
    if stored is None or untrained:  # the pace of a busy machine is not kept before it is needed
        pace = measure_pace(session, spec, detector, batches, known.record, with_val=plan.with_val, ranks=ranks)
        stored = _begin(plan, about, pace, known, listener.note)
        write_training(place, stored)
    if stored.expected is not None:
        listener.note(stored.expected.in_words(stored.plan.epochs, "test" if plan.with_val else "validation"))
    resumable = _resumable(session, stored, detector, batches, place, ranks)
    keeper = Keeper(session, stored.plan, place, detector, resumable.training)
    on_step = in_step(session.step("train"), ranks, session.stop)
    settling = Settling(stored, place, keeper, ranks, listener.note)

    def end_epoch(report: EpochReport) -> None:
        keeper.end_epoch(report)
        settling.end_epoch(resumable.training)

    skipped = resumable.run(on_step=on_step, on_epoch=end_epoch, on_begin=keeper.evaluate)
    outcome = keeper.finish(skipped, known.record, known.front, known.evidence.spread, comparable=comparable)
    stored = replace(settling.record, outcome=outcome, pace=None)
    write_training(place, stored)
    remove_checkpoint(place / CHECKPOINT_FILE)
    ap = None if outcome.metrics is None else outcome.metrics.get("ap")
    listener.training_ended(outcome.epoch, math.nan if ap is None else ap)
    return stored


def _begin(
    plan: Plan, about: Mapping[str, Any], pace: Pace, known: Known, note: Callable[[str], None]
) -> TrainingRecord:
    """Return the record of a training that begins, and say what it will take."""
    if plan.hours is not None:
        seconds = 3600 * plan.hours
        plan = replace(plan, epochs=pace.epochs_within(seconds))
        hours = f"{seconds / 3600:g} h"
        if pace.total_s(plan.epochs) <= seconds:
            note(f"{plan.epochs} epoch{'s fit' if plan.epochs > 1 else ' fits'} into {hours}")
        else:
            note(f"not even one epoch fits into {hours}: one is trained all the same")
    note(pace.in_words(plan.epochs))
    expected = expect(known.evidence, plan.epochs)
    unsettled = None if plan.hours is None else pace
    return TrainingRecord(plan=plan, about=about, expected=expected, outcome=None, pace=unsettled)


def _resumable(
    session: Session,
    stored: TrainingRecord,
    detector: Detector,
    batches: DetectionLoader,
    place: Path,
    ranks: Ranks | None,
) -> ResumableTraining:
    """Return the training from its beginning, or from its checkpoint; say how long it takes from there."""
    plan, testbed, note = stored.plan, session.testbed, session.listener.note
    # To build a detector and to probe have changed torch's random numbers; each epoch begins with its own.
    resumable = begin_training(
        testbed,
        decode(plan.arch),
        detector,
        batches,
        testbed.settings.train.model_copy(update={"epochs": plan.epochs}),
        seed=plan.seed,
        checkpoint=place / CHECKPOINT_FILE,
        key={
            "arch": plan.arch,
            "seed": plan.seed,
            "epochs": plan.epochs,
            "with_val": plan.with_val,
            **stored.about,
        },
        make_folder=lambda: session.folder.make(place),
        note=note,
        ranks=ranks,
    )
    if ranks is not None:
        note(f"{ranks.size} processes train together")
        ranks.announce((plan, resumable.training.state(), stored.pace is None))
    history = resumable.training.history
    if history:
        left_s = (plan.epochs - len(history)) * fmean(each.seconds for each in history)
        note(f"time: about {format_seconds(left_s)} of training are left")
    return resumable


def _plan(request: TrainRequest, search_epochs: int) -> Plan:
    """Return the plan of a request; its epochs are 1 until they follow from its hours."""
    return Plan(
        arch=request.arch,
        epochs=request.epochs_wanted(search_epochs) or 1,
        hours=request.hours,
        with_val=request.with_val,
        seed=derive_seed("final training", request.arch),
    )


def _check_weights(place: Path) -> None:
    """Check that a finished training has its weights and their description.

    Raises:
        StudyError: If one is gone.
    """
    if missing := missing_files(place):
        raise StudyError(
            f"{place}: this training is finished, and its {missing[0]} is gone",
            fix="bring the file back, or move the folder away and train again",
        )
