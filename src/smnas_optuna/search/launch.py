"""How a search's workers are started, and how far it has come, as the process that supervises it sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from smnas_optuna.search.placement import share_of_cores, visible_gpus, worker_environment
from smnas_optuna.search.record import read_records
from smnas_optuna.search.request import Request
from smnas_optuna.search.study import all_studies
from smnas_optuna.search.supervisor import Launch


def launches(request: Request, workers: int | None) -> tuple[Callable[[int, bool], Launch], int]:
    """How each worker is started, by its number and whether it leads, and how many there are."""
    gpus = [] if request.device == "cpu" else visible_gpus(os.environ)
    count = workers or max(1, len(gpus))
    options = [*worker_options(request), *(["--lines"] if count > 1 else [])]
    threads = None if gpus else share_of_cores(count)
    options += ["--threads", str(threads)] if threads is not None else []

    def launch(slot: int, lead: bool) -> Launch:
        command = [sys.executable, "-m", "smnas_optuna.cli", "worker", str(request.study_dir), *options]
        command += ["--slot", str(slot)]
        return Launch(
            command=[*command, "--lead"] if lead else command, environment=worker_environment(os.environ, slot, gpus)
        )

    return launch, count


def worker_options(request: Request) -> list[str]:
    """``request`` as the options of ``smnas worker``."""
    options = ["--stage", request.stage, "--device", request.device]
    options += ["--data", str(request.data_dir)] if request.data_dir is not None else []
    options += ["--trials", str(request.trials)] if request.trials is not None else []
    options += ["--parents", str(request.num_parents)] if request.num_parents is not None else []
    for arch in request.parents:
        options += ["--parent", arch]
    options += [] if request.pruning else ["--no-pruning"]
    return [*options, *(["--force"] if request.force else [])]


def progress(study_dir: Path) -> int:
    """A number that grows whenever a trial of any of the folder's studies comes on."""
    records = [record for study in all_studies(study_dir) for record in read_records(study)]
    ended = sum(record.state in ("complete", "pruned") for record in records)
    return ended + sum(record.epochs_done - record.epochs_before for record in records)
