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
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.search.attempt import Attempt
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.objective import Objective
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .conftest import registered

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]  # trains detectors
ARCH, LEADER = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina", "32x32.resnet18-w8.fpn-p3-p5-c8.none.retina"


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
def session(drawn_dir: Path) -> Session:
    text = (drawn_dir / "study.toml").read_text()
    (drawn_dir / "study.toml").write_text(text.replace("[search]\n", "[search]\nrungs = [1]\n"))
    return prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu")


@pytest.fixture
def study(study: optuna.Study) -> optuna.Study:
    study.set_user_attr("reference_ms", 1.0)
    return study


def add_leader(study: optuna.Study) -> None:
    """A detector that nothing is as fast as, and that knew everything after its first epoch."""
    attrs = {"arch": LEADER, "gate": {"ratio": 1e-6}, "ap_by_epoch": {"1": 1.0}}
    study.add_trial(create_trial(values=(1e-6, 1.0), user_attrs=attrs))


def attempt(
    study: optuna.Study, session: Session, ears: Ears, *, never_pruned: Sequence[str] = (), limits: Limits | None = None
) -> Evaluation:
    with registered() as crew:
        objective = Objective(
            replace(session, listener=ears, stop=ears.stop),
            crew,
            limits=limits or Limits(),
            never_pruned=[decode(arch) for arch in never_pruned],
        )
    trial = study.ask()
    store_attrs(trial, {"arch": ARCH})
    return objective(decode(ARCH), trial)


def without_rungs(session: Session) -> Session:
    search = session.settings.search.model_copy(update={"rungs": ()})
    settings = session.settings.model_copy(update={"search": search})
    return replace(session, testbed=replace(session.testbed, settings=settings))


def test_a_training_that_lags_far_behind_is_stopped_at_the_rung(study: optuna.Study, session: Session) -> None:
    add_leader(study)
    ears = Ears()

    with pytest.raises(optuna.TrialPruned, match=f"stopped after epoch 1: AP 0.*; {LEADER}, which is at least as fast"):
        attempt(study, session, ears)

    record = read_records(study)[-1]
    attrs = record.attrs  # the search loop stores the state, which makes it a pruned one
    assert (attrs["stopped_at_epoch"], attrs["stopped_by"], record.epochs_done) == (1, LEADER, 1)
    assert record.ap_by_epoch.keys() == {1}
    assert ears.steps["train"] == 3, "one epoch"
    assert set(record.attrs["seconds"]) == {"gate", "load", "train", "rungs", "bookkeeping"}
    assert 0 <= record.ap_by_epoch[1] < 1


@pytest.mark.parametrize("never_pruned", [(), (ARCH,)], ids=["nobody ahead", "never pruned"])
def test_otherwise_it_is_trained_to_the_end_with_its_ap_at_the_rung(
    study: optuna.Study, session: Session, never_pruned: Sequence[str]
) -> None:
    if never_pruned:
        add_leader(study)
    ears = Ears()

    attempt(study, session, ears, never_pruned=never_pruned)

    record = read_records(study)[-1]
    assert record.ap_by_epoch.keys() == {1}
    assert record.epochs_done == 2
    assert "stopped_by" not in record.attrs
    assert set(record.attrs["seconds"]) == {"gate", "load", "train", "rungs", "evaluate", "latency", "bookkeeping"}
    assert ears.steps["evaluate"] == 2 * 2, "two batches at the rung and at the end"


@pytest.mark.parametrize("switch", ["rungs", "pruning"])
def test_it_can_be_switched_off(study: optuna.Study, session: Session, switch: str) -> None:
    add_leader(study)
    ears = Ears()

    if switch == "rungs":
        attempt(study, without_rungs(session), ears)
    else:
        attempt(study, session, ears, limits=Limits(pruning=False))

    record = read_records(study)[-1]
    assert record.epochs_done == 2
    assert (record.ap_by_epoch, ears.steps["evaluate"]) == ({}, 2), "nothing is measured that nobody asks for"


def test_the_weights_are_the_same_bit_by_bit_with_and_without_a_rung(study: optuna.Study, session: Session) -> None:
    folder, found = session.folder.run(ARCH), []
    for each in (session, without_rungs(session)):
        evaluation = attempt(study, each, Ears())
        found.append((load_file(folder / "weights.safetensors"), evaluation.ap))
        shutil.rmtree(folder)

    (with_rung, ap), (without, same_ap) = found
    assert with_rung.keys() == without.keys()
    assert all(torch.equal(tensor, without[name]) for name, tensor in with_rung.items())
    assert ap == same_ap


def test_a_training_that_goes_on_after_a_rung_knows_it_still(study: optuna.Study, session: Session) -> None:
    with pytest.raises(Interrupted):
        attempt(study, session, Ears(after_step=4))
    ears = Ears()

    attempt(study, session, ears)

    first, second = read_records(study)
    assert (first.epochs_done, second.epochs_before) == (1, 1)
    assert first.ap_by_epoch == second.ap_by_epoch
    assert first.ap_by_epoch.keys() == {1}
    assert ears.steps["evaluate"] == 2, "at the end only"


@pytest.mark.parametrize("behind", [True, False])
def test_one_that_ended_with_the_epoch_of_a_rung_is_judged_before_it_goes_on(
    study: optuna.Study, session: Session, behind: bool
) -> None:
    with pytest.raises(Interrupted):
        attempt(study, session, Ears(after_epoch=1))
    assert read_records(study)[-1].ap_by_epoch == {}
    ears = Ears()

    if behind:
        add_leader(study)
        with pytest.raises(optuna.TrialPruned, match="stopped after epoch 1"):
            attempt(study, session, ears)
    else:
        attempt(study, session, ears)

    record = read_records(study)[-1]
    assert record.ap_by_epoch.keys() == {1}
    assert (record.epochs_before, ears.steps["train"]) == (1, 0 if behind else 3)


def test_seconds_of_a_phase_within_another_count_once(study: optuna.Study, session: Session) -> None:
    trial, start = study.ask(), time.perf_counter()
    run = Attempt(session, decode(ARCH), trial)
    with run.recorded(), run.phase("train"):
        for _ in range(2):
            with run.phase("rungs"):
                time.sleep(0.02)
        time.sleep(0.01)

    seconds = trial.user_attrs["seconds"]
    assert seconds["rungs"] >= 0.04
    assert seconds["train"] >= 0.01
    assert sum(seconds.values()) <= time.perf_counter() - start + 0.003, "rounded to ms"
