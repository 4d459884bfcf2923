"""A final training by several processes; process 0 alone writes and speaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from smnas_optuna.arch import decode
from smnas_optuna.config import DeviceChoice
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.engine.device import choose_device, explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.state import TrainingState
from smnas_optuna.engine.train import Training
from smnas_optuna.errors import DeviceError
from smnas_optuna.final_training.processes import LAUNCHED
from smnas_optuna.final_training.record import Plan
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.final_training.settle import Anew, Following
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.resumable import fitting_images
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

PATIENCE = timedelta(days=7)
"""Longest time that processes wait for one another: process 0 evaluates, and pauses for measurements of others."""


@contextmanager
def launched(device: DeviceChoice, environment: Mapping[str, str] = os.environ) -> Iterator[Ranks | None]:
    """Join what ``torchrun`` has started while the body runs, and yield the view of this process; None if it is alone.

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
    number, gpu = int(environment["RANK"]), int(environment["LOCAL_RANK"])
    with joined(device, rank=number, size=size, gpu=gpu, meeting="env://") as ranks:
        yield ranks


@contextmanager
def joined(device: DeviceChoice, *, rank: int, size: int, gpu: int, meeting: str) -> Iterator[Ranks]:
    """Join the other processes while the body runs, and yield the view of this one.

    Args:
        device: The requested device.
        rank: Number of this process, from 0.
        size: Number of all processes, at least 2.
        gpu: Number of its GPU on this machine, where they train on GPUs.
        meeting: URL through which they find one another, as torch takes it.

    Raises:
        DeviceError: If there is no such GPU.
    """
    on_gpu = choose_device(device).type == "cuda"
    if on_gpu:
        gpus = torch.cuda.device_count()
        if gpu >= gpus:
            raise DeviceError(
                f"process {gpu} of this machine has no GPU: there are {gpus}",
                fix=f"start one for each GPU: {gpus} processes",
            )
        torch.cuda.set_device(gpu)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE
    )
    try:
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(control, dist.ProcessGroup)  # this process is in it
        yield Ranks(rank=rank, size=size, control=control)
    finally:
        dist.destroy_process_group()


def in_step(step: Callable[[int, int], None], ranks: Ranks | None, stop: StopRequest) -> Callable[[int, int], None]:
    """Return ``step`` for the end of each step; if any process is asked to stop, all are, after the same step."""
    if ranks is None:
        return step

    def together(done: int, total: int) -> None:
        if ranks.any(stop.arrived) and not stop.arrived:
            stop.ask(signal.SIGTERM)
        step(done, total)

    return together


def follow(request: TrainRequest, ranks: Ranks, stop: StopRequest, *, threads: int | None = None) -> None:
    """Train along with process 0, which says what and from where; nothing is written or printed.

    Args:
        request: What is trained.
        ranks: All processes, from the view of this one.
        stop: Checked at every step.
        threads: CPU threads of this process; by default those of one that is alone.

    Raises:
        SmnasError: If data or device cannot be used here.
        Interrupted: If any process is asked to stop.
    """
    session = None
    while (said := ranks.announce(None)) is not None:  # there is nothing left to train
        session = session or prepare(
            StudyFolder(request.study_dir),
            listener=Listener(),
            stop=stop,
            data_dir=request.data_dir,
            device=request.device,
            threads=threads,
            stage="modular",
            times=False,
        )
        with suppress(Anew):
            _follow(said, session, ranks)
            return


def _follow(said: object, session: Session, ranks: Ranks) -> None:
    """Train along to the end.

    Raises:
        Anew: If process 0 begins anew.
    """
    assert isinstance(said, tuple)
    plan, is_settled = said
    assert isinstance(plan, Plan)
    state = ranks.announce(None)
    assert isinstance(state, TrainingState)
    spec, stop = decode(plan.arch), session.stop
    testbed = session.testbed.with_val if plan.with_val else session.testbed
    detector = testbed.build(spec, plan.seed)
    recipe = testbed.settings.train.model_copy(update={"epochs": plan.epochs})
    batches, micro_batch = testbed.train_batches(spec.input_size, plan.seed), fitting_images(testbed, detector, spec)
    training = Training(detector, batches, recipe, seed=plan.seed, micro_batch=micro_batch, ranks=ranks)
    training.restore(state)
    following = Following(is_settled, ranks)
    with explained_device_faults(testbed.device), explained_out_of_memory():
        training.run(on_step=in_step(lambda *_: stop.check(), ranks, stop), on_epoch=lambda _: following.end_epoch())
