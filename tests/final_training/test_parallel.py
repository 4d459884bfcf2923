from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.parallel import LAUNCHED, check_parallel, in_step, launched
from smnas_optuna.final_training.record import read_curve
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from ..commands import PATIENCE, environment, smnas

TWO = Ranks(rank=0, size=2, control=cast("dist.ProcessGroup", None))


@pytest.mark.parametrize("environment_", [{}, {"WORLD_SIZE": "4"}, {"WORLD_SIZE": "1", LAUNCHED: "a"}])
def test_a_process_that_was_started_alone_is_alone(environment_: dict[str, str]) -> None:
    with launched("cpu", environment_) as ranks:
        assert ranks is None


def test_what_several_processes_cannot_share_is_refused() -> None:
    check_parallel("bn", 1, None)
    check_parallel("gn", 2, TWO)
    with pytest.raises(StudyError, match=r"2 processes cannot train with \[detector\] norm = 'bn'"):
        check_parallel("bn", 8, TWO)
    with pytest.raises(StudyError, match=r"2 processes cannot share a batch: \[train\] batch_size is 1"):
        check_parallel("gn", 1, TWO)


def test_if_one_process_is_asked_to_stop_all_stop_after_the_same_step() -> None:
    said, stop = [False, True], StopRequest()
    others = cast("Ranks", SimpleNamespace(any=lambda mine: mine or said.pop(0)))
    step = in_step(lambda *_: stop.check(), others, stop)

    step(1, 2)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        step(2, 2)


def torchrun(study_dir: Path, *options: str) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "smnas_optuna.cli"]
    return [*launch, "train", str(study_dir), "--best", "--device", "cpu", *options]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # not with warnings as errors: torchrun has some of its own
    of = {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE, env=of)


def losses(folder: Path) -> list[float]:
    return [each["loss"] for each in read_curve(folder)["epochs"]]


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_one_of_them_writes(trained_dir: Path) -> None:
    smnas("train", trained_dir, "--best", "--epochs", "1", "--name", "one", "--device", "cpu")

    said = run(torchrun(trained_dir, "--epochs", "1", "--name", "two")).stdout

    one, two = (trained_dir / "trained" / name for name in ("one", "two"))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    first, second = (load_file(each / "last" / "weights.safetensors") for each in (one, two))
    # AdamW's first steps have the size of the rate, whatever that of the gradient, so that rounding may turn some
    near = [torch.isclose(first[name], second[name], atol=1e-3).float().mean().item() for name in first]
    assert min(near) > 0.9
    assert said.count("\nepoch 1/1: loss ") == said.count("2 processes train together") == said.count("| AP | ") == 1
    assert "two is finished already" in run(torchrun(trained_dir, "--epochs", "1", "--name", "two")).stdout


@pytest.mark.nightly
def test_two_processes_that_are_stopped_go_on_to_the_same_weights(trained_dir: Path) -> None:
    run(torchrun(trained_dir, "--epochs", "20", "--name", "whole"))
    command, checkpoint = torchrun(trained_dir, "--epochs", "20", "--name", "parts"), trained_dir / "trained" / "parts"
    of = {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=of) as process:
        deadline = time.monotonic() + PATIENCE
        while not (checkpoint / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
    assert "run the same command to resume" in said

    resumed = run(command).stdout

    assert ": resumes after epoch " in resumed
    whole, parts = (trained_dir / "trained" / name for name in ("whole", "parts"))
    assert losses(parts) == losses(whole)
    first, second = (load_file(each / "weights.safetensors") for each in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    done = smnas("train", trained_dir, "--best", "--epochs", "20", "--name", "parts", "--device", "cpu", check=False)
    assert "parts is finished already" in done.stdout
