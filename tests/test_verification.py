"""``smnas verify`` as a user gives it, in processes of its own, after a search that takes seconds."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest

from smnas_optuna import load_detector

from .commands import PATIENCE, here, processes_of, smnas, start

OPTIONS = ("--device", "cpu", "--workers", "1", "--top", "2", "--seeds", "2", "--epochs", "3")


def finished(study_dir: Path) -> list[tuple[str, int, float]]:
    """The trainings that are kept: architecture, number of the seed, AP."""
    file = study_dir / "verify" / "results.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    return [(run["arch"], run["number"], run["metrics"]["ap"]) for run in runs]


def stop_after(study_dir: Path, trainings: int, number: signal.Signals) -> tuple[int, str]:
    """Give the command, and a signal as soon as so many trainings are kept and the next one has stored an epoch."""
    with start("verify", study_dir, *OPTIONS) as run:
        deadline = time.monotonic() + PATIENCE
        while len(finished(study_dir)) < trainings or not list((study_dir / "verify").glob("*.safetensors")):
            assert run.poll() is None, run.stdout and run.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(run.pid, number)
        out, _ = run.communicate(timeout=PATIENCE)
    return run.returncode, out


@pytest.mark.slow
def test_killed_and_stopped_the_same_command_goes_on_to_the_whole_report(trained_dir: Path) -> None:
    stop_after(trained_dir, 0, signal.SIGKILL)
    code, out = stop_after(trained_dir, 1, signal.SIGTERM)

    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; finished trainings are kept, run the same command to resume" in out
    assert "of 4 trainings are finished: run the same command to resume" in out, "what is known is reported"
    kept = finished(trained_dir)
    run = smnas("verify", trained_dir, *OPTIONS)

    assert "\x1b" not in run.stdout, "a log file gets no control codes"
    assert finished(trained_dir)[: len(kept)] == kept
    assert sorted(each[1] for each in finished(trained_dir)) == [1, 1, 2, 2]
    for said in ("order along the front", "Kendall's tau-b", "for study.toml: [search] ap_spread = "):
        assert said in run.stdout
    assert list((trained_dir / "verify").glob("*.safetensors")) == []
    report = json.loads((trained_dir / "report" / "verify.json").read_text())
    assert [(each["epochs"], len(each["metrics"])) for each in report["runs"]] == [(3, 14)] * 4
    for each in report["architectures"]:
        best = max((ap, number) for arch, number, ap in finished(trained_dir) if arch == each["arch"])
        assert (each["weights"]["ap"], each["weights"]["number"]) == best
        assert f"weights of its best training: {each['weights']['folder']} (AP (x100) " in run.stdout
        assert load_detector(trained_dir / each["weights"]["folder"], device="cpu").arch == each["arch"]
    assert len(list((trained_dir / "verify" / "weights").iterdir())) == 2
    with (trained_dir / "report" / "verify.csv").open() as file:
        assert [row["seeds"] for row in csv.DictReader(file)] == ["2", "2"]
    assert (trained_dir / "report" / "verify.png").stat().st_size > 10_000

    again = smnas("verify", trained_dir, *OPTIONS)
    assert "training 1" not in again.stdout
    assert len(finished(trained_dir)) == 4
    assert "fault" not in here("doctor", trained_dir).stdout


@pytest.mark.nightly
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost_or_done_twice(trained_dir: Path) -> None:
    with start("verify", trained_dir, *OPTIONS, "--workers", "2") as run:
        deadline = time.monotonic() + PATIENCE
        while not list((trained_dir / "verify").glob("*.safetensors")):  # of the first training: three are left
            assert run.poll() is None, run.stdout and run.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for worker in processes_of(trained_dir).keys() - {run.pid}:
            os.kill(worker, signal.SIGKILL)
        out, _ = run.communicate(timeout=PATIENCE)

    assert run.returncode == 0, out
    assert "was stopped by SIGKILL; a new one takes its place" in out
    keys = [each[:2] for each in finished(trained_dir)]
    assert len(keys) == len(set(keys)) == 4
    assert "trainings are finished: run the same command" not in out, "the report waits for all of them"
    assert sorted(file.suffix for file in (trained_dir / "verify").glob("*.seed*")) == []


@pytest.mark.slow
def test_other_data_than_the_searchs_is_refused(trained_dir: Path) -> None:
    text = (trained_dir / "study.toml").read_text()
    (trained_dir / "study.toml").write_text(text.replace("epochs = 2", "epochs = 4"))

    refused = smnas("verify", trained_dir, *OPTIONS, check=False)

    assert refused.returncode == 1
    assert "the study was made with other recipe; the numbers do not compare" in refused.stderr
    assert "first: recipe.train.epochs was 2, is 4" in refused.stderr
    assert "fix: go back to what it was: a longer training is --epochs" in refused.stderr
    assert not (trained_dir / "report" / "verify.json").exists()
