"""``smnas train --ray`` on a cluster whose nodes and driver are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from smnas_optuna.final_training.record import read_curve

from ..commands import smnas
from ..final_training.test_run import same_weights
from .clusters import LocalCluster
from .test_searches import cluster, finished, run, started, wait_for

pytest.importorskip("ray")
__all__ = ["cluster"]
EPOCHS = 60


def training(study_dir: Path, cluster: LocalCluster) -> AbstractContextManager[subprocess.Popen[str]]:
    options = "--best", "--epochs", str(EPOCHS), "--name", "there"
    return started("train", study_dir, *options, ray=cluster.address)


def epochs_of(folder: Path) -> int:
    return len(read_curve(folder)["epochs"]) if (folder / "curve.json").exists() else 0


def assert_as_here(study_dir: Path) -> None:
    smnas("train", study_dir, "--best", "--epochs", str(EPOCHS), "--name", "here", "--device", "cpu")
    here, there = (study_dir / "trained" / name for name in ("here", "there"))
    assert same_weights(here, there)
    assert same_weights(here / "last", there / "last")
    curves = [[(each["loss"], each["ap"]) for each in read_curve(folder)["epochs"]] for folder in (here, there)]
    assert curves[0] == curves[1]


@pytest.mark.nightly
def test_it_gives_the_weights_of_this_machine_and_all_that_is_known_of_them(
    trained_dir: Path, cluster: LocalCluster
) -> None:
    smnas("train", trained_dir, "--best", "--epochs", "2", "--name", "here", "--device", "cpu")

    said = run("train", trained_dir, "--best", "--epochs", "2", "--name", "there", ray=cluster.address)

    here, there = (trained_dir / "trained" / name for name in ("here", "there"))
    assert same_weights(here, there)
    assert same_weights(here / "last", there / "last")
    assert "\nexpected AP (x100) on the validation images: " in said
    assert " at the search's pace: epochs of " in said
    assert "\ntrains on node " in said
    assert " ms on the scale of the study (95 %: " in said
    assert {each.name for each in there.iterdir()} == {each.name for each in here.iterdir()}
    assert "card.md" in {each.name for each in there.iterdir()}


@pytest.mark.nightly
def test_a_node_that_dies_costs_an_epoch_at_most(trained_dir: Path, cluster: LocalCluster) -> None:
    place = trained_dir / "trained" / "there"
    with training(trained_dir, cluster) as process:
        wait_for(lambda: epochs_of(place) >= 5, process)
        (trainer,) = cluster.trainers()
        cluster.kill_node(cluster.node_of(trainer))
        output = finished(process)

    assert "is gone; it goes on from its last epoch elsewhere" in output
    told = Counter(map(int, re.findall(r"epoch (\d+)/60: loss", output)))
    assert told == dict.fromkeys(range(1, EPOCHS + 1), 1)
    assert len(re.findall(r"trains on node ", output)) == 2
    assert_as_here(trained_dir)


@pytest.mark.nightly
def test_a_driver_that_is_killed_goes_on(trained_dir: Path, cluster: LocalCluster) -> None:
    place = trained_dir / "trained" / "there"
    with training(trained_dir, cluster) as process:
        wait_for(lambda: epochs_of(place) >= 5, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    with training(trained_dir, cluster) as process:
        output = finished(process)

    assert ": resumes after epoch " in output
    assert "epoch 1/60" not in output
    assert_as_here(trained_dir)
