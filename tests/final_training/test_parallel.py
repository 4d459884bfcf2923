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
from safetensors.torch import load_file

from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.final_training import processes
from smnas_optuna.final_training.parallel import in_step, launched
from smnas_optuna.final_training.processes import LAUNCHED
from smnas_optuna.final_training.record import read_curve
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from ..commands import PATIENCE, SMNAS, environment, here, smnas


@pytest.mark.parametrize("environment_", [{}, {"WORLD_SIZE": "4"}, {"WORLD_SIZE": "1", LAUNCHED: "a"}])
def test_a_process_that_was_started_alone_is_alone(environment_: dict[str, str]) -> None:
    with launched("cpu", environment_) as ranks:
        assert ranks is None


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
def test_two_processes_train_as_one_does_and_one_of_them_writes(
    trained_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "train", trained_dir, "--best", "--epochs", "1", "--device", "cpu"
    smnas(*command, "--name", "one")

    said = smnas(*command, "--name", "two", "--processes", "2").stdout

    one, two = (trained_dir / "trained" / name for name in ("one", "two"))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    first, second = (load_file(each / "last" / "weights.safetensors") for each in (one, two))
    # AdamW's first steps have the size of the rate, whatever that of the gradient, so that rounding may turn some
    near = [torch.isclose(first[name], second[name], atol=1e-3).float().mean().item() for name in first]
    assert min(near) > 0.9
    assert said.count("\nepoch 1/1: loss ") == said.count("2 processes train together") == said.count("| AP | ") == 1
    monkeypatch.setattr(processes, "choose_processes", None)  # begun with two: finished, it needs no second GPU
    assert "two is finished already" in here(*command, "--name", "two").stdout
    under_torchrun = run(torchrun(trained_dir, "--epochs", "1", "--name", "two")).stdout
    assert under_torchrun.count("two is finished already") == 1


@pytest.mark.slow
def test_the_error_of_a_process_reaches_the_user_once(trained_dir: Path) -> None:
    options = "--name", "mine", "--processes", "2", "--device", "cpu"
    (trained_dir / "data" / "instances_train.json").write_text("{")

    done = smnas("train", trained_dir, *options, check=False)

    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "instances_train.json" in done.stderr


@pytest.mark.nightly
def test_two_processes_of_torchrun_train_as_one_does(trained_dir: Path) -> None:
    smnas("train", trained_dir, "--best", "--epochs", "1", "--name", "one", "--device", "cpu")

    said = run(torchrun(trained_dir, "--epochs", "1", "--name", "two")).stdout

    one, two = (trained_dir / "trained" / name for name in ("one", "two"))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert said.count("\nepoch 1/1: loss ") == said.count("2 processes train together") == said.count("| AP | ") == 1


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["own", "torchrun"])
def test_two_processes_that_are_stopped_go_on_to_the_same_weights(trained_dir: Path, kind: str) -> None:
    def command(name: str) -> list[str]:
        if kind == "torchrun":
            return torchrun(trained_dir, "--epochs", "20", "--name", name)
        options = "--best", "--device", "cpu", "--processes", "2", "--epochs", "20", "--name", name
        return [*SMNAS, "train", str(trained_dir), *options]

    run(command("whole"))
    checkpoint = trained_dir / "trained" / "parts" / "checkpoint.safetensors"
    of = {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}
    with subprocess.Popen(
        command("parts"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=of
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
    assert "run the same command to resume" in said
    assert kind == "torchrun" or process.returncode == 128 + signal.SIGTERM

    resumed = run(command("parts")).stdout

    assert ": resumes after epoch " in resumed
    whole, parts = (trained_dir / "trained" / name for name in ("whole", "parts"))
    assert losses(parts) == losses(whole)
    first, second = (load_file(each / "weights.safetensors") for each in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    done = smnas("train", trained_dir, "--best", "--epochs", "20", "--name", "parts", "--device", "cpu", check=False)
    assert "parts is finished already" in done.stdout
