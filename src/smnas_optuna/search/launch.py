"""How workers are started, and how far they have come, as the process that supervises them sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from smnas_optuna.search.placement import Placement
from smnas_optuna.search.request import Request
from smnas_optuna.search.supervisor import Launch
from smnas_optuna.study.folder import StudyFolder

if TYPE_CHECKING:
    from smnas_optuna.search.verification import VerifyRequest


def launcher(command: Sequence[str], placement: Placement) -> Callable[[int, bool], Launch]:
    """How each worker is started, by its number and whether it leads; ``command`` is what all of them do."""
    shared = [sys.executable, "-m", "smnas_optuna.cli", *command, "--of", str(placement.workers)]
    shared += ["--threads", str(placement.threads)] if placement.threads is not None else []

    def launch(slot: int, lead: bool) -> Launch:
        own = ["--slot", str(slot), *(["--lead"] if lead else [])]
        return Launch(command=[*shared, *own], environment=placement.environment(os.environ, slot))

    return launch


def search_command(request: Request) -> list[str]:
    """``request`` as a worker's command line."""
    options = ["worker", str(request.study_dir), "--stage", request.stage, "--device", request.device]
    options += ["--data", str(request.data_dir)] if request.data_dir is not None else []
    options += ["--trials", str(request.trials)] if request.trials is not None else []
    options += ["--parents", str(request.num_parents)] if request.num_parents is not None else []
    for arch in request.parents:
        options += ["--parent", arch]
    options += [] if request.pruning else ["--no-pruning"]
    return [*options, *(["--force"] if request.force else [])]


def verify_command(request: VerifyRequest) -> list[str]:
    """``request`` as a worker's command line."""
    options = ["verify-worker", str(request.study_dir), "--seeds", str(request.seeds), "--device", request.device]
    options += ["--epochs", str(request.epochs)] if request.epochs is not None else []
    options += ["--data", str(request.data_dir)] if request.data_dir is not None else []
    return [*options, *(word for arch in request.archs for word in ("--arch", arch))]


def search_progress(study_dir: Path) -> int:
    """A number that grows whenever a trial of any of the folder's studies comes on."""
    records = StudyFolder(study_dir).records()
    ended = sum(record.state in ("complete", "pruned") for record in records)
    return ended + sum(record.epochs_done - record.epochs_before for record in records)


def verify_progress(request: VerifyRequest) -> int:
    """A number that grows whenever a training keeps something."""
    times = [0]
    for file in request.folder.iterdir():
        if file.suffix in (".json", ".safetensors"):
            with suppress(FileNotFoundError):  # taken away meanwhile
                times.append(file.stat().st_mtime_ns)
    return max(times)
