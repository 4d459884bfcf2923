"""A final training: begun or resumed, evaluated on the way, and at its end measured as the search measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings
from smnas_optuna.data.splits import TEST_IMAGES_FIX
from smnas_optuna.engine.checkpoint import remove_checkpoint
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.memory import release_memory
from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.alone import alone_at
from smnas_optuna.final_training.conditions import (
    check_begun,
    check_finished,
    check_study,
    conditions_of,
    device_of,
    refuse_other_request,
)
from smnas_optuna.final_training.expectation import expect
from smnas_optuna.final_training.keep import Keeper
from smnas_optuna.final_training.known import Known
from smnas_optuna.final_training.parallel import in_step
from smnas_optuna.final_training.probe import measure_pace, searched_pace
from smnas_optuna.final_training.processes import check_parallel
from smnas_optuna.final_training.record import Plan, TrainingRecord, missing_files, read_training, write_training
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.final_training.schedule import Pace
from smnas_optuna.final_training.settle import Anew, Settling
from smnas_optuna.session.executor import Job
from smnas_optuna.session.in_process import InProcess
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.workforce import Alone, Workforce
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
    workforce: Workforce | None = None,
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
        workforce: Who asks for the training, one at a time; by default this process, which trains.

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
                check_finished(stored, settings, place)
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
                fix=f"{TEST_IMAGES_FIX}; or train without --with-val",
            )
        workforce = workforce or Alone(0, listener)
        session = workforce.equip(session)
        if ranks is not None:
            session = replace(session, executor=InProcess(session.testbed, ranks))
        training = _Training(session, known, place, ranks, is_here=workforce.is_here)
        (record,) = workforce.run(lambda *_: training.run(plan, stored))
        return Finished(name=name, folder=place, record=record, before=False)


@dataclass(frozen=True, slots=True)
class _Training:
    """A training that is not finished."""

    session: Session
    known: Known
    place: Path
    ranks: Ranks | None
    is_here: bool

    def run(self, plan: Plan, stored: TrainingRecord | None) -> TrainingRecord:
        """Train to the end, anew if its epochs say so, and return what came out."""
        session, place = self.session, self.place
        with (
            session.testbed.measurement_lock.running(session.stop.check),
            explained_device_faults(session.testbed.device),
            explained_out_of_memory(),
        ):
            while True:
                try:
                    return self._train(plan, stored)
                except Anew:
                    release_memory()
                    remove_checkpoint(place / CHECKPOINT_FILE)
                    stored = read_training(place)
                    assert stored is not None
                    plan = stored.plan

    def _train(self, plan: Plan, stored: TrainingRecord | None) -> TrainingRecord:
        """Train to the end, and return what came out."""
        session, place, ranks, listener = self.session, self.place, self.ranks, self.session.listener
        about = conditions_of(session, ranks)
        if stored is None:
            check_study(session)
        else:
            check_begun(stored, about, place)
        untrained = stored is not None and stored.pace is not None and not (place / CHECKPOINT_FILE).exists()
        if stored is None or untrained:  # the pace of a busy machine is not kept before it is needed
            stored = self._begin(plan, about)
            write_training(place, stored)
        if stored.expected is not None:
            role = "test" if plan.with_val else "validation"
            listener.note(stored.expected.in_words(stored.plan.epochs, role))
        if ranks is not None:
            listener.note(f"{ranks.size} processes train together")
            ranks.announce((stored.plan, stored.pace is None))
        settling = Settling(stored, place, ranks, listener.note)
        on_step = in_step(session.step("train"), ranks, session.stop)
        keeper = Keeper(session, stored.plan, place, on_step, settling.end_epoch)
        trained = session.executor.train(_job(session, stored, place), keeper)
        comparable = session.depends_on["device"] == device_of(session.folder)
        outcome = keeper.finish(trained, self.known, comparable=comparable)
        stored = replace(settling.record, outcome=outcome, pace=None)
        write_training(place, stored)
        remove_checkpoint(place / CHECKPOINT_FILE)
        ap = None if outcome.metrics is None else outcome.metrics.get("ap")
        listener.training_ended(outcome.epoch, math.nan if ap is None else ap)
        return stored

    def _begin(self, plan: Plan, about: Mapping[str, Any]) -> TrainingRecord:
        """Return the record of a training that begins, and say what it will take.

        Raises:
            StudyError: If its hours cannot be turned into epochs.
        """
        session, note = self.session, self.session.listener.note
        pace = self._pace(plan)
        if plan.hours is not None:
            if pace is None:
                raise StudyError(
                    f"{session.folder.path}: no trained trial tells how many epochs take {plan.hours:g} h on a node",
                    fix="name the epochs: --epochs N",
                )
            seconds = 3600 * plan.hours
            plan = replace(plan, epochs=pace.epochs_within(seconds))
            hours = f"{seconds / 3600:g} h"
            if pace.total_s(plan.epochs) <= seconds:
                note(f"{plan.epochs} epoch{'s fit' if plan.epochs > 1 else ' fits'} into {hours}")
            else:
                note(f"not even one epoch fits into {hours}: one is trained all the same")
        if pace is not None:
            note(pace.in_words(plan.epochs, "this moment's" if self.is_here else "the search's"))
        expected = expect(self.known.evidence, plan.epochs)
        unsettled = None if plan.hours is None else pace
        return TrainingRecord(plan=plan, about=about, expected=expected, outcome=None, pace=unsettled)

    def _pace(self, plan: Plan) -> Pace | None:
        """Return the likely pace of the training; None if nothing tells it."""
        session, with_val = self.session, plan.with_val
        if not self.is_here:
            return searched_pace(session, plan.arch, with_val=with_val)
        spec, record = decode(plan.arch), self.known.record
        return measure_pace(session, spec, plan.seed, record, with_val=with_val, ranks=self.ranks)


def _job(session: Session, stored: TrainingRecord, place: Path) -> Job:
    """Return what an executor is asked for. At the end it evaluates nothing: the last weights may not be the best."""
    plan = stored.plan
    return Job(
        spec=decode(plan.arch),
        seed=plan.seed,
        recipe=session.settings.train.model_copy(update={"epochs": plan.epochs}),
        checkpoint=place / CHECKPOINT_FILE,
        key={
            "arch": plan.arch,
            "seed": plan.seed,
            "epochs": plan.epochs,
            "with_val": plan.with_val,
            "processes": stored.num_processes,
            **{name: value for name, value in stored.about.items() if name != "device"},
        },
        make_folder=lambda: session.folder.make(place),
        rungs=plan.rungs,
        images=(),
        with_val=plan.with_val,
    )


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
