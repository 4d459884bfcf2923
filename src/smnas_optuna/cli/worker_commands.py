"""The command that a supervisor starts its workers with, and the work of a search that ``smnas worker`` shares."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.console import make_console, say, working
from smnas_optuna.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.search.outcome import Outcome
    from smnas_optuna.search.request import Request
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
    console, stop = make_console(interactive=job.workers == 1 or job.task == "train"), StopRequest()
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
        from smnas_optuna.loggers.listening import with_loggers
        from smnas_optuna.report.progress import ConsoleListener
        from smnas_optuna.search.stages import run_search
    with ConsoleListener(console, workers=job.workers, deadline=request.deadline) as listener:
        return run_search(
            request,
            listener=with_loggers(listener, request.study_dir, tells=job.lead or job.workers == 1),
            stop=stop,
            worker=number,
            workers=job.workers,
            lead=job.lead,
            threads=job.threads,
            begun=begun,
            on_ready=say_ready if job.lead else lambda: None,
        )


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
    with ConsoleListener(
        console, each="training", all="all", workers=job.workers, deadline=request.deadline
    ) as listener:
        retrain(
            request,
            listener=listener,
            stop=stop,
            threads=job.threads,
            workers=job.workers,
            lead=job.lead,
            begun=begun,
            on_ready=say_ready,
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
