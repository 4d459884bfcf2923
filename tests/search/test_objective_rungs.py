"""Trainings of a tiny detector, two epochs with a rung after the first."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import create_trial
from safetensors.torch import load_file

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.ground import load_data
from smnas_optuna.search.interrupt import Interrupted, StopRequest
from smnas_optuna.search.listener import Listener
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.objective import Objective, _Run, run_folder
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records

from .conftest import on_duty

ARCH, LEADER = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32", "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


class Ears(Listener):
    """Counts the steps of each phase; asks to stop after so many of training, or stops as an epoch ends."""

    def __init__(self, *, after_step: int | None = None, after_epoch: int | None = None) -> None:
        self.stop = StopRequest()
        self.after_step, self.after_epoch = after_step, after_epoch
        self.steps = Counter[str]()

    def step(self, phase: str, done: int, total: int) -> None:
        self.steps[phase] += 1
        if phase == "train" and done == self.after_step:
            self.stop.ask(15)

    def epoch(self, report: EpochReport) -> None:
        if report.epoch == self.after_epoch:
            raise Interrupted(15)


@pytest.fixture
def bench(study_dir: Path) -> Bench:
    text = (study_dir / "study.toml").read_text()
    (study_dir / "study.toml").write_text(text.replace("[search]\n", "[search]\nrungs = [1]\n"))
    settings = load_settings(study_dir)
    _, splits = load_data(study_dir, None, settings, lambda *_: None)
    caches = CachePool(study_dir / "cache", lambda _: None)
    return Bench(study_dir=study_dir, settings=settings, splits=splits, caches=caches, device=torch.device("cpu"))


@pytest.fixture
def study(study: optuna.Study) -> optuna.Study:
    study.set_user_attr("reference_ms", 1.0)
    return study


def add_leader(study: optuna.Study) -> None:
    """A detector that nothing is as fast as, and that knew everything after its first epoch."""
    attrs = {"arch": LEADER, "gate": {"ratio": 1e-6}, "ap_by_epoch": {"1": 1.0}}
    study.add_trial(create_trial(values=(1e-6, 1.0), user_attrs=attrs))


def attempt(
    study: optuna.Study, bench: Bench, ears: Ears, *, spared: Sequence[str] = (), limits: Limits | None = None
) -> Evaluation:
    with on_duty() as crew:
        objective = Objective(
            bench, crew, ears, ears.stop, limits=limits or Limits(), spared=[decode(arch) for arch in spared]
        )
    trial = study.ask()
    store_attrs(trial, {"arch": ARCH})
    return objective(decode(ARCH), trial)


def without_rungs(bench: Bench) -> Bench:
    search = bench.settings.search.model_copy(update={"rungs": ()})
    return replace(bench, settings=bench.settings.model_copy(update={"search": search}))


def test_a_training_that_lags_far_behind_is_stopped_at_the_rung(study: optuna.Study, bench: Bench) -> None:
    add_leader(study)
    ears = Ears()

    with pytest.raises(optuna.TrialPruned, match=f"stopped after epoch 1: AP 0.*, and {LEADER}, as fast at least"):
        attempt(study, bench, ears)

    record = read_records(study)[-1]
    assert (record.stopped_at_epoch, record.stopped_by, record.epochs_done) == (1, LEADER, 1)
    assert record.ap_by_epoch.keys() == {1}
    assert ears.steps["train"] == 3, "one epoch"
    assert set(record.attrs["seconds"]) == {"gate", "load", "train", "rungs", "bookkeeping"}
    assert 0 <= record.ap_by_epoch[1] < 1


@pytest.mark.parametrize("spared", [(), (ARCH,)], ids=["nobody ahead", "spared"])
def test_otherwise_it_is_trained_to_the_end_with_its_ap_at_the_rung(
    study: optuna.Study, bench: Bench, spared: Sequence[str]
) -> None:
    if spared:
        add_leader(study)
    ears = Ears()

    attempt(study, bench, ears, spared=spared)

    record = read_records(study)[-1]
    assert record.ap_by_epoch.keys() == {1}
    assert (record.epochs_done, record.stopped_by) == (2, None)
    assert set(record.attrs["seconds"]) == {"gate", "load", "train", "rungs", "evaluate", "latency", "bookkeeping"}
    assert ears.steps["evaluate"] == 2 * 2, "two batches at the rung and at the end"


@pytest.mark.parametrize("switch", ["rungs", "pruning"])
def test_it_can_be_switched_off(study: optuna.Study, bench: Bench, switch: str) -> None:
    add_leader(study)
    ears = Ears()

    if switch == "rungs":
        attempt(study, without_rungs(bench), ears)
    else:
        attempt(study, bench, ears, limits=Limits(pruning=False))

    record = read_records(study)[-1]
    assert record.epochs_done == 2
    assert (record.ap_by_epoch, ears.steps["evaluate"]) == ({}, 2), "nothing is measured that nobody asks for"


def test_the_weights_are_the_same_bit_by_bit_with_and_without_a_rung(study: optuna.Study, bench: Bench) -> None:
    folder, found = run_folder(bench.study_dir, ARCH), []
    for each in (bench, without_rungs(bench)):
        evaluation = attempt(study, each, Ears())
        found.append((load_file(folder / "weights.safetensors"), evaluation.ap))
        shutil.rmtree(folder)

    (with_rung, ap), (without, same_ap) = found
    assert with_rung.keys() == without.keys()
    assert all(torch.equal(tensor, without[name]) for name, tensor in with_rung.items())
    assert ap == same_ap


def test_a_training_that_goes_on_after_a_rung_knows_it_still(study: optuna.Study, bench: Bench) -> None:
    with pytest.raises(Interrupted):
        attempt(study, bench, Ears(after_step=4))
    ears = Ears()

    attempt(study, bench, ears)

    first, second = read_records(study)
    assert (first.epochs_done, second.epochs_before) == (1, 1)
    assert first.ap_by_epoch == second.ap_by_epoch
    assert first.ap_by_epoch.keys() == {1}
    assert ears.steps["evaluate"] == 2, "at the end only"


@pytest.mark.parametrize("behind", [True, False])
def test_one_that_ended_with_the_epoch_of_a_rung_is_judged_before_it_goes_on(
    study: optuna.Study, bench: Bench, behind: bool
) -> None:
    with pytest.raises(Interrupted):
        attempt(study, bench, Ears(after_epoch=1))
    assert read_records(study)[-1].ap_by_epoch == {}
    ears = Ears()

    if behind:
        add_leader(study)
        with pytest.raises(optuna.TrialPruned, match="stopped after epoch 1"):
            attempt(study, bench, ears)
    else:
        attempt(study, bench, ears)

    record = read_records(study)[-1]
    assert record.ap_by_epoch.keys() == {1}
    assert (record.epochs_before, ears.steps["train"]) == (1, 0 if behind else 3)


def test_seconds_of_a_phase_within_another_count_once(study: optuna.Study, bench: Bench) -> None:
    trial, start = study.ask(), time.perf_counter()
    run = _Run(bench, decode(ARCH), trial, lambda _: None)
    with run.recorded(), run.phase("train"):
        for _ in range(2):
            with run.phase("rungs"):
                time.sleep(0.02)
        time.sleep(0.01)

    seconds = trial.user_attrs["seconds"]
    assert seconds["rungs"] >= 0.04
    assert seconds["train"] >= 0.01
    assert sum(seconds.values()) <= time.perf_counter() - start + 0.003, "rounded to ms"
