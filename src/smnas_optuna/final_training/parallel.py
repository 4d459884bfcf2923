"""A final training by several processes, which ``torchrun`` has started; process 0 alone writes and speaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist

from smnas_optuna.arch import decode
from smnas_optuna.config import DeviceChoice
from smnas_optuna.data import train_and_val
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.device import choose_device, explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.state import TrainingState
from smnas_optuna.engine.train import Training
from smnas_optuna.errors import DeviceError, StudyError
from smnas_optuna.final_training.record import Plan
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.resumable import fitting_images
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

PATIENCE = timedelta(days=7)
"""Longest time that processes wait for one another: process 0 evaluates, and pauses for measurements of others."""
LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Environment variable that ``torchrun`` sets."""


@contextmanager
def launched(device: DeviceChoice, environment: Mapping[str, str] = os.environ) -> Iterator[Ranks | None]:
    """Join the other processes while the body runs, and yield the view of this one; None if it was started alone.

    Args:
        device: The requested device; on CUDA each process takes the GPU of its number on this machine.
        environment: Environment variables; ``torchrun`` describes the processes in them.

    Raises:
        DeviceError: If there are more processes than GPUs.
    """
    size = int(environment.get("WORLD_SIZE", "1")) if LAUNCHED in environment else 1
    if size == 1:
        yield None
        return
    on_gpu = choose_device(device).type == "cuda"
    if on_gpu:
        number, gpus = int(environment["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= gpus:
            raise DeviceError(
                f"process {number} of this machine has no GPU: there are {gpus}",
                fix=f"start one for each: torchrun --nproc-per-node {gpus}",
            )
        torch.cuda.set_device(number)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(control, dist.ProcessGroup)  # this process is in it
        yield Ranks(rank=int(environment["RANK"]), size=size, control=control)
    finally:
        dist.destroy_process_group()


def check_parallel(norm: str, batch_size: int, ranks: Ranks | None) -> None:
    """Check that several processes can share the batches of a recipe.

    Args:
        norm: ``[detector] norm``.
        batch_size: Images of a step, of all processes together.
        ranks: The processes; None if there is one.

    Raises:
        StudyError: If they cannot.
    """
    if ranks is None:
        return
    if norm == "bn":
        raise StudyError(
            f"{ranks.size} processes cannot train with [detector] norm = 'bn', which normalises over the images of a "
            "batch",
            fix="train in one process, without torchrun",
        )
    if batch_size < ranks.size:
        raise StudyError(
            f"{ranks.size} processes cannot share a batch: [train] batch_size is {batch_size}",
            fix="start as many processes as a batch has images, or fewer: torchrun --nproc-per-node",
        )


def in_step(step: Callable[[int, int], None], ranks: Ranks | None, stop: StopRequest) -> Callable[[int, int], None]:
    """Return ``step`` for the end of each step; if any process is asked to stop, all are, after the same step."""
    if ranks is None:
        return step

    def together(done: int, total: int) -> None:
        if ranks.any(stop.arrived) and not stop.arrived:
            stop.ask(signal.SIGTERM)
        step(done, total)

    return together


def follow(request: TrainRequest, ranks: Ranks, stop: StopRequest) -> None:
    """Train along with process 0, which says what and from where; nothing is written or printed.

    Raises:
        SmnasError: If data or device cannot be used here.
        Interrupted: If any process is asked to stop.
    """
    said = ranks.announce(None)
    if said is None:  # there is nothing left to train
        return
    assert isinstance(said, tuple)
    plan, state = said
    assert isinstance(plan, Plan)
    assert isinstance(state, TrainingState)
    session = prepare(
        StudyFolder(request.study_dir),
        listener=Listener(),
        stop=stop,
        data_dir=request.data_dir,
        device=request.device,
        stage="modular",
        times=False,
    )
    testbed, spec = session.testbed, decode(plan.arch)
    if plan.with_val:
        testbed = replace(testbed, splits=replace(testbed.splits, train=train_and_val(testbed.splits)))
    detector = testbed.build(spec, plan.seed)
    recipe = testbed.settings.train.model_copy(update={"epochs": plan.epochs})
    batches, micro_batch = testbed.train_batches(spec.input_size, plan.seed), fitting_images(testbed, detector, spec)
    training = Training(detector, batches, recipe, seed=plan.seed, micro_batch=micro_batch, ranks=ranks)
    training.restore(state)
    with explained_device_faults(testbed.device), explained_out_of_memory():
        training.run(on_step=in_step(lambda *_: stop.check(), ranks, stop))
