"""The command as a user gives it, in processes of its own, on a study that takes seconds a trial.

tests/workers/test_survival.py has more of kills and signals, with workers that train nothing.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smnas_optuna.report.summary import COUNTED
from smnas_optuna.search.request import Request
from smnas_optuna.search.stages import run_search
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import contenders
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, TrialRecord
from smnas_optuna.workers.interrupt import StopRequest

from .commands import PATIENCE, here, make_slow, records, records_in, searching, smnas, wait_for_trial

slow, nightly = pytest.mark.slow, pytest.mark.nightly


def as_stored(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    """What never changes of trials: their latencies are scaled when they are read, as more is measured."""
    return [(record.number, record.study, record.arch, record.stored_ms, record.ap) for record in records]


def front(study_dir: Path) -> dict[str, Any]:
    values = json.loads(here("front", study_dir, "--format", "json").stdout)
    assert isinstance(values, dict)
    return values


@slow
def test_a_search_from_its_first_command_to_its_front(study_dir: Path) -> None:
    settings = study_dir / "study.toml"
    settings.write_text(settings.read_text().replace('runtime = "eager"\n', ""))
    run = smnas("structural", study_dir, "--device", "cpu")

    assert "ended: budget reached: 5 of 5 architectures are trained" in run.stdout
    assert "\x1b" not in run.stdout, "a log file gets no control codes"
    found = front(study_dir)
    cached = sum(record.cached_from is not None for record in records(study_dir))
    assert found["trials"] == {**dict.fromkeys(COUNTED, 0), "complete": 5, "cached": cached}
    assert (found["device"]["kind"], found["device"]["runtime"]) == ("cpu", "onnxruntime")
    latencies = [member["latency_ms"] for member in found["front"]]
    assert latencies == sorted(latencies)
    trained = [record for record in records(study_dir) if record.trained]
    for record in trained:
        assert record.attrs["latency"]["runtime"] == "onnxruntime"
        on_front = record.arch in [member["arch"] for member in found["front"]]
        has_weights = (study_dir / "runs" / str(record.arch) / "weights.safetensors").exists()
        assert has_weights or not on_front
        assert has_weights <= (record.arch in {each.arch for each in contenders(trained)})
        folder = study_dir / "runs" / str(record.arch)
        assert (folder / "train.log").read_text().count(" epoch ") == 2
        assert not (folder / "checkpoint.safetensors").exists()
        assert set(record.attrs["seconds"]) == {"gate", "load", "train", "evaluate", "latency", "bookkeeping"}
        assert len(record.attrs["metrics"]) == 14, "COCO's, and the interval of AP"
        assert record.attrs["flops"] == 2 * (record.multiply_adds or 0) > 0
    assert [record.baseline for record in trained[:2]] == [True, True]
    assert max(record.generation or 0 for record in trained) >= 1

    with (study_dir / "report" / "front.csv").open() as file:
        assert [row["arch"] for row in csv.DictReader(file)] == [member["arch"] for member in found["front"]]
    assert (study_dir / "report" / "front.png").stat().st_size > 10_000
    again = smnas("structural", study_dir, "--device", "cpu", "--workers", "1")
    assert "ended: budget reached: 5 of 5" in again.stdout
    assert len(records(study_dir)) == len(trained) + found["trials"]["cached"]
    further = smnas("structural", study_dir, "--device", "cpu", "--workers", "1", "--trials", "6")
    assert "ended: budget reached: 6 of 6" in further.stdout


@slow
def test_stage_2_wants_the_structures_first(study_dir: Path) -> None:
    refused = smnas("modular", study_dir, "--device", "cpu", check=False)
    assert refused.returncode == 1
    assert f"fix: search the structures first: smnas structural {study_dir} [--data DIR]" in refused.stderr


@slow
def test_both_stages_to_the_joint_front(trained_dir: Path) -> None:
    parents = ["32x32.resnet18-w4.c4.rpn.fc", "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"]
    chosen = [option for parent in parents for option in ("--parent", parent)]

    run = smnas("modular", trained_dir, "--device", "cpu", "--workers", "2", "--trials", "4", *chosen)

    assert "ended: budget reached: 4 of 4 architectures are trained, around 2 structures" in run.stdout
    assert "timing again, in one run: " in run.stdout
    found = front(trained_dir)
    assert set(found["fronts"]) == {"structural", "modular"}
    assert found["timed_together"] or "keeps its latency" in run.stdout, "on a busy machine"
    areas = found["hypervolume"]
    assert areas["all"] >= max(areas["structural"], areas["modular"]) > 0
    assert {member["study"].partition("/")[0] for member in found["front"]} <= {"structural", "modular"}
    assert (trained_dir / "report" / "hypervolume.png").stat().st_size > 10_000
    mine = records(trained_dir, "modular")
    archs = [record.arch for record in mine if record.trained]
    assert len(archs) == len(set(archs)) == 4
    assert {record.study for record in mine} == {f"modular/{parent}" for parent in parents}

    again = smnas("modular", trained_dir, "--device", "cpu", "--workers", "1", "--trials", "4", *chosen)
    assert "ended: budget reached: 4 of 4" in again.stdout
    assert as_stored(records(trained_dir, "modular")) == as_stored(mine), "a finished study gets nothing more"
    assert found["timed_together"] <= ("timing again" not in again.stdout)
    for stage in ("structural", "modular"):
        shown = json.loads(here("front", trained_dir, "--stage", stage, "--format", "json").stdout)
        assert list(shown["fronts"]) == [stage]
    assert "fault" not in here("doctor", trained_dir).stdout


@nightly
def test_killed_in_the_middle_of_stage_2_the_same_command_goes_on(trained_dir: Path) -> None:
    options = ("--trials", "4", "--parent", "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32")
    with searching(trained_dir, *options, stage="modular") as process:
        wait_for_trial(trained_dir, process, 1, "modular")
    before = records(trained_dir, "modular")

    run = smnas("modular", trained_dir, "--device", "cpu", "--workers", "1", *options)

    assert "ended: budget reached: 4 of 4" in run.stdout
    after = records(trained_dir, "modular")
    assert as_stored(after[:1]) == as_stored(before[:1])
    assert (after[1].state, after[1].reason, after[1].killed) == ("failed", INTERRUPTED, True)
    assert (after[2].arch, after[2].trained) == (after[1].arch, True)
    archs = [record.arch for record in after if record.trained]
    assert len(archs) == len(set(archs)) == 4


def weights_of(study_dir: Path, arch: str) -> dict[str, torch.Tensor]:
    return load_file(study_dir / "runs" / arch / "weights.safetensors")


@slow
def test_killed_in_an_epoch_it_resumes_from_the_last_one_to_the_same_weights(study_dir: Path, tmp_path: Path) -> None:
    file, options = study_dir / "study.toml", ("--trials", "2")
    text = file.read_text().replace("train_images = 24", "train_images = 48").replace("epochs = 2", "epochs = 6")
    file.write_text(text.replace("[search]\n", '[search]\nkeep_weights = "all"\n'))
    undisturbed = Path(shutil.copytree(study_dir, tmp_path / "undisturbed"))
    with searching(study_dir, *options) as process:
        wait_for_trial(study_dir, process, 1)
        folder, deadline = StudyFolder(study_dir), time.monotonic() + PATIENCE
        while not records_in(folder)[1].epochs_done:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    before = records(study_dir)

    run = smnas("structural", study_dir, "--device", "cpu", "--workers", "1", *options)

    assert "ended: budget reached: 2 of 2" in run.stdout
    first, killed, resumed = records(study_dir)
    assert as_stored([record for record in before if record.trained]) == as_stored([first])
    assert (killed.state, killed.reason, killed.killed) == ("failed", INTERRUPTED, True)
    assert resumed.arch == killed.arch != first.arch
    assert resumed.trained
    assert 0 < killed.epochs_done <= resumed.epochs_before < resumed.epochs_done == 6
    log = (study_dir / "runs" / str(resumed.arch) / "train.log").read_text()
    told = re.findall(r" epoch (\d)/6", log)
    assert told == sorted(set(told)), "no epoch is trained twice"

    request = Request(study_dir=undisturbed, trials=2, device="cpu")
    run_search(request, listener=Listener(), stop=StopRequest())
    for mine, other_one in zip((first, resumed), records(undisturbed), strict=True):
        assert (mine.arch, mine.ap) == (other_one.arch, other_one.ap)
        one, other = weights_of(study_dir, str(mine.arch)), weights_of(undisturbed, str(mine.arch))
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=nightly), pytest.param(signal.SIGTERM, marks=slow)]
)
def test_a_signal_ends_it_cleanly(study_dir: Path, number: signal.Signals) -> None:
    make_slow(study_dir)
    with searching(study_dir) as process:
        wait_for_trial(study_dir, process, 0, training=True)
        second = smnas("structural", study_dir, "--device", "cpu", check=False)
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert (study_dir / "runs" / str(records(study_dir)[0].arch) / "checkpoint.safetensors").exists()

    assert second.returncode == 1
    assert f"another search is running here (process {process.pid})" in second.stderr
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; finished trials are kept, run the same command to resume" in out
    (last,) = records(study_dir)
    assert (last.state, last.reason, last.killed) == ("failed", INTERRUPTED, False)


@pytest.mark.nightly
def test_what_was_stopped_within_an_epoch_goes_on_from_there(study_dir: Path) -> None:
    make_slow(study_dir)
    with searching(study_dir) as process:
        wait_for_trial(study_dir, process, 0, training=True)
        time.sleep(2)  # some steps of the 400 of an epoch
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    (first,) = records(study_dir)
    log = study_dir / "runs" / str(first.arch) / "train.log"
    with searching(study_dir) as process:
        wait_for_trial(study_dir, process, 1)
        deadline = time.monotonic() + PATIENCE
        while " of the next" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    assert records(study_dir)[1].arch == first.arch
    goes_on = re.search(r"resumes after epoch \d, step (\d+) of the next", log.read_text())
    assert goes_on is not None, log.read_text()
    assert int(goes_on[1]) > 0


@nightly
def test_an_architecture_that_kills_its_process_twice_is_given_up(study_dir: Path) -> None:
    make_slow(study_dir)
    for number in range(2):
        with searching(study_dir) as process:
            wait_for_trial(study_dir, process, number)
    with searching(study_dir) as process:
        wait_for_trial(study_dir, process, 2)

    first, second, third = records(study_dir)[:3]
    assert first.arch == second.arch != third.arch
    assert (first.reason, second.reason) == (INTERRUPTED, KILLED_TWICE)


@slow
def test_other_data_settings_or_space_are_refused_and_named(trained_dir: Path) -> None:
    text = (trained_dir / "study.toml").read_text()
    other = text.replace("epochs = 2", "epochs = 3").replace("[train]", "[train]\nflip = 0.1")
    (trained_dir / "study.toml").write_text(other.replace("neck_channels = [8, 16]", "neck_channels = [8, 16, 24]", 1))
    refused = smnas("structural", trained_dir, "--device", "cpu", check=False)
    assert refused.returncode == 1
    for difference in (
        "recipe.train.epochs was 2, is 3",
        "recipe.train.flip was 0.5, is 0.1",
        "space.neck_channels was [8, 16], is [8, 16, 24]",
    ):
        assert difference in refused.stderr
    assert "Traceback" not in refused.stderr
    (trained_dir / "study.toml").write_text(text)
    image = next((trained_dir / "data" / "images").iterdir())
    image.write_bytes(next(p for p in (trained_dir / "data" / "images").iterdir() if p != image).read_bytes())
    refused = smnas("structural", trained_dir, "--device", "cpu", check=False)
    assert refused.returncode == 1
    assert "the study was made with other data; its numbers do not compare" in refused.stderr
    assert "data.content was" in refused.stderr


@slow
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(study_dir: Path) -> None:
    study_dir.chmod(0o555)
    try:
        refused = smnas("structural", study_dir, "--device", "cpu", check=False)
    finally:
        study_dir.chmod(0o755)
    assert refused.returncode == 1
    assert "fix: " in refused.stderr
    assert "Traceback" not in refused.stderr
