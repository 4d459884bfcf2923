"""How a search's workers are started, and how far it has come, as the process that supervises it sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from smnas_optuna.search.placement import Placement
from smnas_optuna.search.record import read_records
from smnas_optuna.search.request import Request
from smnas_optuna.search.study import all_studies
from smnas_optuna.search.supervisor import Launch


def launcher(request: Request, placement: Placement) -> Callable[[int, bool], Launch]:
    """How each worker is started, by its number and whether it leads."""
    options = [*worker_options(request), "--of", str(placement.workers)]
    options += ["--threads", str(placement.threads)] if placement.threads is not None else []

    def launch(slot: int, lead: bool) -> Launch:
        command = [sys.executable, "-m", "smnas_optuna.cli", "worker", str(request.study_dir), *options]
        command += ["--slot", str(slot), *(["--lead"] if lead else [])]
        return Launch(command=command, environment=placement.environment(os.environ, slot))

    return launch


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
