"""The processes of a final training: how many there are, and how each is started. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from smnas_optuna.allowance import usable_cores
from smnas_optuna.config import StudySettings
from smnas_optuna.errors import DeviceError, StudyError
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.workers.assignment import Assignment
from smnas_optuna.workers.launch import Launch

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Environment variable that ``torchrun`` sets."""
MEETING = "meeting"
"""File through which the processes find one another."""
INTERFACE = "GLOO_SOCKET_IFNAME"
"""Environment variable with the network interface over which processes on CPUs exchange gradients."""


def choose_processes(
    asked: int | None,
    *,
    gpus: int,
    begun_with: int | None,
    settings: StudySettings,
    note: Callable[[str], None] = lambda _: None,
) -> int:
    """Return the number of processes to train in: as many as asked for or as before, else one for each GPU.

    Args:
        asked: Number that is asked for.
        gpus: GPUs to train on; 0 on a CPU.
        begun_with: Number of processes of the training that this one resumes; None for a new one.
        settings: Recipe of the training.
        note: Receives a line if some GPUs are left out.

    Raises:
        StudyError: If so many processes cannot share the batches of the recipe.
        DeviceError: If there are more processes than GPUs.
    """
    norm, batch_size = settings.detector.norm, settings.train.batch_size
    size = asked or begun_with
    if size is None:
        size = 1 if norm == "bn" else max(1, min(gpus, batch_size))
        if size < gpus:
            why = "[detector] norm is 'bn'" if norm == "bn" else f"[train] batch_size is {batch_size}"
            note(f"note: of {gpus} GPUs {size} {'is' if size == 1 else 'are'} used: {why}")
        return size
    check_parallel(norm, batch_size, size)
    if size > gpus > 0:
        raise DeviceError(
            f"{size} processes cannot train here: there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'}",
            fix=f"take one for each GPU: --processes {gpus}"
            if asked is not None
            else f"this training was begun with {size}: make as many GPUs visible, or begin another: --name OTHER",
        )
    return size


def check_parallel(norm: str, batch_size: int, size: int) -> None:
    """Check that several processes can share the batches of a recipe.

    Args:
        norm: ``[detector] norm``.
        batch_size: Images of a step, of all processes together.
        size: Number of processes.

    Raises:
        StudyError: If they cannot.
    """
    if size == 1:
        return
    if norm == "bn":
        raise StudyError(
            f"{size} processes cannot train with [detector] norm = 'bn', which normalises over the images of a batch",
            fix="train in one process: --processes 1",
        )
    if batch_size < size:
        raise StudyError(
            f"{size} processes cannot share a batch: [train] batch_size is {batch_size}",
            fix=f"take as many processes as a batch has images, or fewer: --processes {batch_size}",
        )


def launches(request: TrainRequest, size: int, *, on_gpus: bool, folder: Path) -> list[Launch]:
    """Return how each of ``size`` processes is started.

    Args:
        request: What is trained.
        size: Number of processes, at least 2.
        on_gpus: True if each has a GPU of its own; otherwise each gets its share of the cores.
        folder: An empty folder, in which they find one another.
    """
    threads = None if on_gpus else max(1, usable_cores() // size)
    # by the name of this machine, which gloo takes by default, it may not be found
    environment = {INTERFACE: "lo", **os.environ} if sys.platform == "linux" else dict(os.environ)
    values = {**request.as_json(), MEETING: str(folder / MEETING)}
    return [
        Launch(
            command=Assignment(
                task="train", request=values, slot=rank, workers=size, lead=rank == 0, threads=threads
            ).command(),
            environment=environment,
        )
        for rank in range(size)
    ]
