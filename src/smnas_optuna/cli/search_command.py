"""Command that runs both stages and their verification: ``smnas search``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnas_optuna.cli.console import make_console, place, print_report, run_shown, run_workers, say
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, DryRun, Force, Ray, StudyDir, WarmStart, Workers

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.campaign.choice import Candidates
    from smnas_optuna.campaign.request import CampaignRequest
    from smnas_optuna.campaign.run import Verifying
    from smnas_optuna.config import RaySettings
    from smnas_optuna.workers.assignment import Task
    from smnas_optuna.workers.interrupt import StopRequest
    from smnas_optuna.workers.placement import Placement


def search(
    study_dir: StudyDir,
    hours: Annotated[
        float | None,
        typer.Option(
            metavar="H",
            min=0.001,
            max=10_000,
            help="Budget in hours, earlier runs included.",
            show_default="that of study.toml; without one the numbers of trainings there",
        ),
    ] = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
    ray: Ray = None,
    warm_start: WarmStart = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Search both stages, time their fronts together, and verify the best. Run the same command to resume."""
    begun = time.time()
    from smnas_optuna.campaign.request import CampaignRequest
    from smnas_optuna.campaign.run import Campaign
    from smnas_optuna.config import load_settings
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest
    from smnas_optuna.workers.supervisor import supervising

    console, stop = make_console(), StopRequest()
    with stop.listening():
        try:
            settings = load_settings(study_dir)  # a typo is reported before a worker starts
            request = CampaignRequest(
                study_dir=study_dir,
                hours=hours or settings.search.hours,
                data_dir=data,
                device=device.value,
                warm_start=tuple(warm_start or ()),
                force=force,
                ray=ray,
                in_flight=workers,
            )
            places = None if ray is None else workers or _places(ray, settings.ray) + 1
            placement = place(request, console)
            if dry_run:
                _plan(request, placement, console, stop)
                return
            with explained_disk_errors(study_dir), supervising(study_dir):
                campaign = Campaign(
                    request,
                    _launch(placement, console, stop),
                    workers=places or placement.workers,
                    candidates=partial(_candidates, study_dir),
                    note=partial(say, console),
                    begun=begun,
                )
                if campaign.is_spent:
                    print_report(study_dir, console)
                    say(console, campaign.spent_line())
                    return
                status = campaign.run()
        except Interrupted as interrupted:
            kept = "finished trials are kept, run the same command to resume"
            console.print(f"{interrupted}; {kept}", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    if status == 0:
        print_report(study_dir, console)
        _print_verified(study_dir, campaign.verified, console)
    raise typer.Exit(status)


def _launch(
    placement: Placement, console: Console, stop: StopRequest
) -> Callable[[Task, Mapping[str, Any], Callable[[], int]], int]:
    """Return the function that runs the workers of a phase; one worker measures."""

    def launch(task: Task, request: Mapping[str, Any], progress: Callable[[], int]) -> int:
        place = replace(placement, workers=1) if task == "retime" else placement
        return run_workers(task, request, place, progress=progress, console=console, stop=stop)

    return launch


def _places(address: str, settings: RaySettings) -> int:
    """Return the number of trainings that fit into a cluster."""
    from smnas_optuna.cluster.connection import connected
    from smnas_optuna.cluster.needs import needs_of, places_of

    with connected(address) as ray:
        return places_of(ray, needs_of(ray, settings))


def _candidates(study_dir: Path) -> Candidates:
    """Return what gives the architectures that could be verified by now."""
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.verify.verification import candidates_of

    summary = summarize(*StudyFolder(study_dir).of_stage(None), name=study_dir.resolve().name)
    return lambda top: candidates_of(study_dir, summary.front, summary.compared_first, summary.reference, top)


def _print_verified(study_dir: Path, verified: Verifying | None, console: Console) -> None:
    from smnas_optuna.report.files import write_verification
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.verify_table import print_verification
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.verify.verification import collect

    verification = None if verified is None else collect(verified.request, verified.selection.candidates)
    if verification is None:
        return
    print_verification(verification, console)
    summary = summarize(*StudyFolder(study_dir).of_stage(None), name=study_dir.resolve().name)
    for path in write_verification(verification, summary, study_dir / "report"):
        say(console, f"wrote {path}")


def _plan(request: CampaignRequest, placement: Placement, console: Console, stop: StopRequest) -> None:
    """Report the shares of the budget and what stage 1 would do."""
    begun = time.perf_counter()
    from smnas_optuna.campaign.ledger import LEDGER_FILE, Ledger
    from smnas_optuna.campaign.shares import SHARES, Budget
    from smnas_optuna.duration import format_seconds
    from smnas_optuna.search.stages import describe_search

    deadline = None
    if request.total_s is not None:
        shares = ", ".join(f"{phase} {format_seconds(share * request.total_s)}" for phase, share in SHARES.items())
        ledger = Ledger(request.study_dir / LEDGER_FILE)
        spent = f"; {format_seconds(ledger.total_s)} are spent" if ledger.total_s else ""
        say(console, f"budget: {request.hours:g} h: {shares}{spent}")
        budget = Budget(total_s=request.total_s, spent_s=ledger.spent_s, now=time.time())
        deadline = budget.deadline(budget.structural_s())
    describe = partial(describe_search, workers=placement.workers, threads=placement.threads, begun=begun)
    run_shown(describe, request.search("structural", deadline), console, stop)
