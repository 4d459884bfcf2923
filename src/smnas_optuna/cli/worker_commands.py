"""The command that a supervisor starts its workers with, and the work of a search that ``smnas worker`` shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.console import make_console, say, working
from smnas_optuna.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.search.outcome import Outcome
    from smnas_optuna.search.request import Request
    from smnas_optuna.session.listener import Listener
    from smnas_optuna.session.workforce import Workforce
    from smnas_optuna.study.record import StageName
    from smnas_optuna.verify.request import VerifyRequest
    from smnas_optuna.workers.assignment import Assignment
    from smnas_optuna.workers.interrupt import StopRequest


def work(
    assignment: Annotated[str, typer.Argument(metavar="JSON", help="An assignment, as the supervisor writes it.")],
) -> None:
    """Do the work of one supervised worker."""
    from smnas_optuna.workers.assignment import Assignment
    from smnas_optuna.workers.interrupt import StopRequest

    try:
        job = Assignment.from_json(assignment)
    except (ValueError, TypeError, RecursionError):
        raise StudyError(
            "smnas work: this is no assignment of a supervisor",
            fix="join a search with smnas worker STUDY_DIR instead",
        ) from None
    alone = job.workers == 1 and job.request.get("ray") is None
    console, stop = make_console(interactive=alone or job.task == "train"), StopRequest()
    with working(console, stop, supervised=True):
        if job.task == "search":
            _search(job, console, stop)
        elif job.task == "retime":
            _retime(job, console, stop)
        elif job.task == "train":
            _train(job, console, stop)
        else:
            _verify(job, console, stop)


def search_as_worker(request: Request, console: Console, stop: StopRequest, *, number: int, job: Assignment) -> Outcome:
    """Search as one worker, shown on ``console``.

    Args:
        request: What the user asks for.
        console: Shows progress.
        stop: Asked at every step.
        number: That no other worker of this machine has.
        job: The workers that start together, this one's threads, and whether it leads.
    """
    from smnas_optuna.workers.measurement_lock import MeasurementLock
    from smnas_optuna.workers.supervisor import say_ready

    begun = time.perf_counter()
    # These take seconds of a core: nothing is measured meanwhile.
    with MeasurementLock(note=partial(say, console)).running(stop.check):
        from smnas_optuna.loggers.listening import beside, with_loggers
        from smnas_optuna.report.progress import ConsoleListener
        from smnas_optuna.search.stages import run_search

    def listener_of(count: int) -> Listener:
        return beside(ConsoleListener(console, workers=count, deadline=request.deadline), logged)

    with ExitStack() as stack:
        listener = stack.enter_context(ConsoleListener(console, workers=job.workers, deadline=request.deadline))
        logged = with_loggers(listener, request.study_dir, tells=job.lead or job.workers == 1)
        return run_search(
            request,
            listener=logged,
            stop=stop,
            worker=number,
            workers=job.workers,
            lead=job.lead,
            threads=job.threads,
            begun=begun,
            on_ready=say_ready if job.lead else lambda: None,
            workforce=None if request.ray is None else _crowd(stack, request, request.stage, listener_of),
        )


def _crowd(
    stack: ExitStack, request: Request | VerifyRequest, stage: StageName, listener: Callable[[int], Listener]
) -> Workforce:
    """Return those who ask a cluster for trainings, and be connected to it as long as ``stack`` is open."""
    from smnas_optuna.cluster.workforce import crowd

    assert request.ray is not None
    return stack.enter_context(crowd(request.ray, stage, request.in_flight, listener))


def _search(job: Assignment, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.search.request import Request

    search_as_worker(Request.from_json(job.request), console, stop, number=job.slot, job=job)


def _retime(job: Assignment, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.search.request import Request
    from smnas_optuna.search.retime import retime_fronts

    with ConsoleListener(console) as listener:
        retime_fronts(Request.from_json(job.request), listener=listener, stop=stop)


def _verify(job: Assignment, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.workers.measurement_lock import MeasurementLock
    from smnas_optuna.workers.supervisor import say_ready

    begun = time.perf_counter()
    with MeasurementLock(note=partial(say, console)).running(stop.check):  # as above
        from smnas_optuna.report.progress import ConsoleListener
        from smnas_optuna.verify.request import VerifyRequest
        from smnas_optuna.verify.retrain import retrain
    request = VerifyRequest.from_json(job.request)

    def listener_of(count: int) -> ConsoleListener:
        return ConsoleListener(console, each="training", all="all", workers=count, deadline=request.deadline)

    with ExitStack() as stack:
        retrain(
            request,
            listener=stack.enter_context(listener_of(job.workers)),
            stop=stop,
            threads=job.threads,
            workers=job.workers,
            lead=job.lead,
            begun=begun,
            on_ready=say_ready,
            workforce=None if request.ray is None else _crowd(stack, request, "modular", listener_of),
        )


def _train(job: Assignment, console: Console, stop: StopRequest) -> None:
    """Train as one of several processes, of which the first speaks and writes."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.errors import LostProcessError
    from smnas_optuna.final_training.parallel import follow, joined
    from smnas_optuna.final_training.processes import MEETING
    from smnas_optuna.final_training.request import TrainRequest
    from smnas_optuna.final_training.run import train_detector
    from smnas_optuna.loggers.listening import with_loggers
    from smnas_optuna.report.evidence import known_of
    from smnas_optuna.report.progress import TrainingListener
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.group import LOST

    meeting = f"file://{job.request[MEETING]}"
    request = TrainRequest.from_json({name: value for name, value in job.request.items() if name != MEETING})
    try:
        with (
            explained_disk_errors(request.study_dir),
            joined(request.device, rank=job.slot, size=job.workers, gpu=job.slot, meeting=meeting) as ranks,
        ):
            if not job.lead:
                follow(request, ranks, stop, threads=job.threads)
                return
            name = request.name_for(load_settings(request.study_dir).for_modular().train.epochs)
            _, known = known_of(request.study_dir, Pick(arch=request.arch), with_val=request.with_val)
            with TrainingListener(console) as listener:
                logged = with_loggers(listener, request.study_dir, arch=request.arch, name=name)
                train_detector(request, known, listener=logged, stop=stop, ranks=ranks, threads=job.threads)
    except LostProcessError:
        raise typer.Exit(LOST) from None
