"""Searches on a cluster whose nodes, trainers and driver are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import KILLED_TWICE

from ..commands import PATIENCE, SMNAS, environment, records
from ..stopwatches import free_port
from .clusters import LocalCluster, local_cluster

pytest.importorskip("ray")

EPOCHS = 4
SLOW = {
    "train_images = 24": "train_images = 48",
    "epochs = 2": f"epochs = {EPOCHS}",
    "batch_size = 8": "batch_size = 1",
}
"""An epoch then takes about half a second."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path / "nodes", nodes=2) as cluster:
        yield cluster


@pytest.fixture
def slow_dir(study_dir: Path) -> Path:
    text = (study_dir / "study.toml").read_text()
    for old, new in SLOW.items():
        assert old in text
        text = text.replace(old, new)
    (study_dir / "study.toml").write_text(text)
    return study_dir


def with_ray(*arguments: str | Path, ray: str) -> tuple[list[str], dict[str, str]]:
    """A command on a cluster, and its environment: Ray has warnings of its own."""
    command = [*SMNAS, *map(str, arguments), "--device", "cpu", "--ray", ray]
    return command, {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}


def run(*arguments: str | Path, ray: str, cwd: Path | None = None, patience: int = PATIENCE) -> str:
    command, variables = with_ray(*arguments, ray=ray)
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, timeout=patience)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def started(*arguments: str | Path, ray: str) -> Iterator[subprocess.Popen[str]]:
    """A command on a cluster, in a process group of its own that is killed at the end."""
    command, variables = with_ray(*arguments, ray=ray)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def searching(study_dir: Path, cluster: LocalCluster, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("structural", study_dir, *options, ray=cluster.address)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def epochs_done(study_dir: Path) -> dict[str, int]:
    return {str(each.arch): each.epochs_done for each in records(study_dir) if each.state == "running"}


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def epochs_told(study_dir: Path) -> Counter[tuple[str, int]]:
    """How often each epoch of each architecture was told, by the logs."""
    told = Counter[tuple[str, int]]()
    for log in StudyFolder(study_dir).runs.glob("*/train.log"):
        for epoch in re.findall(r" epoch (\d+)/\d+: loss", log.read_text()):
            told[log.parent.name, int(epoch)] += 1
    return told


def assert_whole(study_dir: Path, trained: int) -> None:
    done = [each for each in records(study_dir) if each.trained]
    assert len(done) == trained
    assert epochs_told(study_dir) == {(str(each.arch), epoch): 1 for each in done for epoch in range(1, EPOCHS + 1)}


@pytest.mark.slow
def test_a_node_that_dies_costs_an_epoch_at_most_and_another_one_takes_its_place(
    slow_dir: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.add_node()
    with searching(slow_dir, cluster, "--trials", "4") as process:
        wait_for(lambda: len(epochs_done(slow_dir)) >= 3 and max(epochs_done(slow_dir).values()) >= 1, process)
        cluster.kill_node(node)
        cluster.add_node()
        output = finished(process)

    assert_whole(slow_dir, 4)
    assert "is gone; it goes on from its last epoch elsewhere" in output
    assert output.count("trains 1 detector at a time") == 4


@pytest.mark.nightly
def test_a_driver_that_is_killed_goes_on_and_leaves_no_trainer_behind(slow_dir: Path, cluster: LocalCluster) -> None:
    with searching(slow_dir, cluster, "--trials", "3") as process:
        wait_for(lambda: max(epochs_done(slow_dir).values(), default=0) >= 2, process)
        orphans = cluster.trainers()
        assert orphans
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while orphans & cluster.trainers():
        assert time.monotonic() < deadline
        time.sleep(0.2)

    with searching(slow_dir, cluster, "--trials", "3") as process:
        finished(process)

    done = [each for each in records(slow_dir) if each.trained]
    assert len(done) == 3
    assert max(epochs_told(slow_dir).values()) == 1


@pytest.mark.nightly
def test_a_stopped_search_keeps_what_its_trainers_have(slow_dir: Path, cluster: LocalCluster) -> None:
    with searching(slow_dir, cluster, "--trials", "3") as process:
        wait_for(lambda: max(epochs_done(slow_dir).values(), default=0) >= 1, process)
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM, output
    stopped = [each for each in records(slow_dir) if each.reason == "interrupted"]
    kept = [StudyFolder(slow_dir).run(str(each.arch)) / "checkpoint.safetensors" for each in stopped]
    assert any(file.is_file() for file in kept)

    with searching(slow_dir, cluster, "--trials", "3") as process:
        finished(process)

    assert max(epochs_told(slow_dir).values()) == 1


@pytest.mark.nightly
def test_an_architecture_that_kills_its_trainers_is_given_up(slow_dir: Path, cluster: LocalCluster) -> None:
    def kill_all() -> bool:
        for pid in cluster.trainers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return any(each.reason == KILLED_TWICE for each in records(slow_dir))

    with searching(slow_dir, cluster, "--trials", "1", "--workers", "1") as process:
        wait_for(kill_all, process)
        finished(process)

    given_up = [each for each in records(slow_dir) if each.reason == KILLED_TWICE]
    assert {each.state for each in given_up} == {"failed"}
    assert sum(each.trained for each in records(slow_dir)) == 1


@pytest.mark.nightly
def test_nodes_without_the_data_get_it_once(study_dir: Path, cluster: LocalCluster, drawn: Path) -> None:
    """The path of the data leads to them in the driver's own folder alone."""
    data = ("--data", "/proc/self/cwd/data")
    first = run("structural", study_dir, *data, "--trials", "2", ray=cluster.address, cwd=drawn)
    assert len(re.findall(r"gets \d+ files of the data", first)) == 2
    copies = [list(cluster.cache_of(number).glob("cluster/*/data")) for number in (1, 2)]
    assert [len(each) for each in copies] == [1, 1]
    assert (copies[0][0] / "instances_val.json").read_bytes() == (drawn / "data" / "instances_val.json").read_bytes()

    again = run("structural", study_dir, *data, "--trials", "3", ray=cluster.address, cwd=drawn)
    assert "files of the data" not in again


@pytest.mark.nightly
def test_a_node_with_other_data_is_named_and_not_used(study_dir: Path, cluster: LocalCluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cluster.add_node(SMNAS_OPTUNA_DATA=str(other))

    with searching(study_dir, cluster, "--trials", "2") as process:
        output = finished(process)

    assert len(re.findall(r"node \S+ \(\w{6}\) is not used: ", output)) == 1
    assert output.count("trains 1 detector at a time") == 2


@pytest.mark.nightly
def test_a_verification_trains_on_a_cluster(trained_dir: Path, cluster: LocalCluster) -> None:
    output = run("verify", trained_dir, "--seeds", "2", ray=cluster.address)

    assert (trained_dir / "report" / "verify.csv").is_file()
    assert output.count("trains 1 detector at a time") == 2


@pytest.mark.nightly
def test_all_phases_of_a_search_train_on_a_cluster(study_dir: Path, cluster: LocalCluster) -> None:
    output = run("search", study_dir, ray=cluster.address, patience=5 * PATIENCE)

    assert output.count("trains 1 detector at a time") == 6  # two nodes in three phases
    assert sum(each.trained for each in StudyFolder(study_dir).records()) == 9
    assert (study_dir / "report" / "verify.csv").is_file()


@pytest.mark.nightly
def test_a_machine_that_is_no_node_connects_by_its_client(study_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    port = free_port()
    with local_cluster(tmp_path / "nodes", nodes=1, client_port=port):
        run("structural", study_dir, "--trials", "2", ray=f"ray://127.0.0.1:{port}")

    assert sum(each.trained for each in records(study_dir)) == 2


@pytest.mark.nightly
def test_the_doctor_sees_the_nodes(trained_dir: Path, cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    cluster.add_node(SMNAS_OPTUNA_DATA=str(tmp_path / "other"))
    command = [*SMNAS, "doctor", str(trained_dir), "--ray", cluster.address]
    _, variables = with_ray(ray="")
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=PATIENCE)

    assert done.returncode == 1, done.stdout + done.stderr
    assert len(re.findall(r"fine: node .*: CPU 1; trains 1 detector at a time; data in ", done.stdout)) == 2
    assert len(re.findall(r"fault: node .*\n  fix: name the folder of the study's data there", done.stdout)) == 1
