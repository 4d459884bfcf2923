from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from filelock import FileLock
from optuna.trial import create_trial
from safetensors.torch import load_file

from smnas_optuna import load_detector
from smnas_optuna.arch import decode
from smnas_optuna.config import ShapesSettings
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import StudyError
from smnas_optuna.final_training import probe, settle
from smnas_optuna.final_training import run as run_module
from smnas_optuna.final_training.expectation import Evidence
from smnas_optuna.final_training.keep import Keeper
from smnas_optuna.final_training.known import Known
from smnas_optuna.final_training.record import Outcome, TrainingRecord, read_curve
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.final_training.run import Finished, train_detector
from smnas_optuna.final_training.schedule import Pace
from smnas_optuna.session import in_process, resumable
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.attributes import FINGERPRINT, REFERENCE_MS, json_values
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import read_records
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .trainings import ARCH, OTHER

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]  # trains detectors
WEIGHTS = "weights.safetensors"


class Hears(Listener):
    """Keeps what is told; asks to stop after so many steps of training or evaluating."""

    def __init__(self, steps: int = -1, phase: str = "train") -> None:
        self.stop, self.left, self.phase = StopRequest(), steps, phase
        self.notes: list[str] = []
        self.epochs: list[int] = []

    def step(self, phase: str, done: int, total: int) -> None:
        self.left -= phase == self.phase
        if self.left == 0:
            self.stop.ask(15)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def epoch(self, report: EpochReport) -> None:
        self.epochs.append(report.epoch)


@pytest.fixture(autouse=True)
def few_steps_are_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_S", 0.0)


@pytest.fixture
def searched(drawn_dir: Path) -> Path:
    """A study whose search has trained ARCH and a faster one."""
    return as_if_searched(drawn_dir)


@pytest.fixture(scope="module")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The training in such a study that nothing has interrupted."""
    folder = shutil.copytree(drawn, tmp_path_factory.mktemp("whole") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "PROBE_S", 0.0)
        patch.setattr(resumable, "fitting_images", lambda testbed, *_: testbed.settings.train.batch_size)
        return run(as_if_searched(Path(folder)))


def as_if_searched(study_dir: Path) -> Path:
    file = study_dir / "study.toml"
    file.write_text(file.read_text().replace("max_seconds = 0.5", "max_seconds = 0.05"))
    folder = StudyFolder(study_dir)
    study = folder.create("structural", optuna.samplers.RandomSampler())
    session = prepare(folder, listener=Listener(), stop=StopRequest(), device="cpu")
    study.set_user_attr(FINGERPRINT, session.testbed.fingerprint)
    study.set_user_attr(REFERENCE_MS, 10.0)
    for arch, values in ((ARCH, (20.0, 0.02)), (OTHER, (1e-6, 0.01))):
        study.add_trial(create_trial(values=values, user_attrs={"arch": arch, "seconds": {"evaluate": 0.01}}))
    return study_dir


def add_test_images(study_dir: Path) -> None:
    """Name other drawn images as test data."""
    make_shapes(study_dir / "test", ShapesSettings(train_images=1, val_images=8, width=64, height=64, seed=1))
    text = (study_dir / "study.toml").read_text()
    named = 'test = "../test/instances_val.json"\ntest_images = "../test/images"\n[data.shapes]'
    (study_dir / "study.toml").write_text(text.replace("[data.shapes]", named))


def known(study_dir: Path) -> Known:
    records = read_records(StudyFolder(study_dir).load("structural"))
    evidence = Evidence(searched=(2, 0.02), retrained=(), gains=(), spread=0.01)
    return Known(record=records[0], front=pareto_front(records), evidence=evidence)


def run(
    study_dir: Path,
    hears: Hears | None = None,
    *,
    epochs: int | None = 3,
    hours: float | None = None,
    with_val: bool = False,
    name: str | None = "mine",
    arch: str = ARCH,
) -> Finished:
    hears = hears or Hears()
    request = TrainRequest(
        study_dir=study_dir, arch=arch, epochs=epochs, hours=hours, with_val=with_val, name=name, device="cpu"
    )
    return train_detector(request, known(study_dir), listener=hears, stop=hears.stop)


def outcome_of(record: TrainingRecord) -> Outcome:
    assert record.outcome is not None
    return record.outcome


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_detector_is_trained_measured_and_described(searched: Path) -> None:
    hears = Hears()
    finished = run(searched, hears, name=None)
    outcome, folder = outcome_of(finished.record), searched / "trained" / f"{ARCH}.epochs3"

    assert (finished.folder, finished.before, hears.epochs) == (folder, False, [1, 2, 3])
    assert {file.name for file in folder.iterdir()} == {
        *(WEIGHTS, "detector.json", "training.json", "curve.json", "last", "train.lock")
    }
    assert any(note.startswith("time: about ") for note in hears.notes)
    assert any(note.startswith("expected AP (x100) on the validation images: 2.0 (0.0-4.8 ") for note in hears.notes)
    assert not any(note.startswith("warning") for note in hears.notes)
    detector = load_detector(folder, device="cpu")
    assert (detector.arch, detector.description["epochs"]) == (ARCH, 3)
    testbed = prepare(StudyFolder(searched), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    batches = testbed.val_batches(decode(ARCH).input_size)
    again = json_values(testbed.evaluate(detector.module, testbed.splits.val, batches))
    assert outcome.metrics == detector.description["metrics"] == pytest.approx(again)
    assert outcome.test_metrics is None
    assert outcome.latency.ms is not None
    assert outcome.latency.ms == detector.description["latency_ms"] > 0
    assert outcome.latency.runtime == "eager"
    assert outcome.place is not None
    curve = read_curve(folder)
    assert [each["epoch"] for each in curve["epochs"]] == [1, 2, 3]
    aps = [each["ap"] for each in curve["epochs"]]
    assert outcome.epoch == 1 + aps.index(max(aps))
    assert outcome.metrics is not None
    assert outcome.metrics["ap"] == max(aps)
    assert outcome.last_metrics is not None
    assert outcome.last_metrics["ap"] == aps[-1]


@pytest.mark.parametrize(
    ("steps", "phase"), [(1, "train"), (4, "train"), (9, "train"), (2, "evaluate"), (6, "evaluate")]
)
def test_what_was_stopped_goes_on_to_the_same_weights(searched: Path, whole: Finished, steps: int, phase: str) -> None:
    hears = Hears()
    with pytest.raises(Interrupted):
        run(searched, Hears(steps, phase))

    resumed = run(searched, hears)

    assert any("resumes after epoch" in note for note in hears.notes)
    assert same_weights(whole.folder, resumed.folder)
    assert same_weights(whole.folder / "last", resumed.folder / "last")
    first, second = outcome_of(whole.record), outcome_of(resumed.record)
    assert (first.epoch, first.metrics, first.last_metrics) == (second.epoch, second.metrics, second.last_metrics)
    curves = [[(each["loss"], each["ap"]) for each in read_curve(each.folder)["epochs"]] for each in (whole, resumed)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("what", ["_save", "_write_curve", "finish"])
def test_killed_where_something_is_stored_it_goes_on_to_the_same_weights(
    searched: Path, whole: Finished, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    whole_one, calls = getattr(Keeper, what), []

    def die_the_second_time(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == (1 if what == "finish" else 2):
            raise KeyboardInterrupt
        return whole_one(*arguments, **named)

    monkeypatch.setattr(Keeper, what, die_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        run(searched)
    monkeypatch.undo()
    resumed = run(searched)

    assert same_weights(whole.folder, resumed.folder)
    assert outcome_of(whole.record).metrics == outcome_of(resumed.record).metrics


def test_finished_it_is_not_trained_again(searched: Path) -> None:
    finished, again = run(searched), Hears()
    (finished.folder / "checkpoint.safetensors").touch()

    assert run(searched, again) == replace(finished, before=True)
    assert again.epochs == []
    assert not (finished.folder / "checkpoint.safetensors").exists()

    study_file = searched / "study.toml"
    as_it_was = study_file.read_text()
    study_file.write_text(as_it_was.replace("batch_size = ", "batch_size = 1"))
    with pytest.raises(StudyError, match=r"was trained with another recipe; .*\n.*recipe\.train\.batch_size was"):
        run(searched)
    study_file.write_text(as_it_was)

    (finished.folder / WEIGHTS).unlink()
    with pytest.raises(StudyError, match=r"this training is finished, and its weights\.safetensors is gone"):
        run(searched)


def test_the_best_weights_are_kept_and_the_last_beside_them(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aps = iter([0.3, 0.5, 0.5, 0.4])
    measured = Testbed.evaluate

    def evaluate(*arguments: Any, **named: Any) -> CocoMetrics:
        return replace(measured(*arguments, **named), ap=next(aps))

    monkeypatch.setattr(Testbed, "evaluate", evaluate)

    finished = run(searched, epochs=4)
    outcome = outcome_of(finished.record)

    assert outcome.metrics is not None
    assert outcome.last_metrics is not None
    assert (outcome.epoch, outcome.metrics["ap"], outcome.last_metrics["ap"]) == (2, 0.5, 0.4)
    assert load_detector(finished.folder, device="cpu").description["epoch"] == 2
    assert load_detector(finished.folder / "last", device="cpu").description["epoch"] == 4
    assert not same_weights(finished.folder, finished.folder / "last")


def test_stopped_as_the_best_ap_is_told_it_keeps_the_best_weights(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aps = iter([0.3, 0.5, 0.5, 0.4, 0.2])
    measured, save = Testbed.evaluate, Keeper._save
    stops = iter([False, True])

    def evaluate(*arguments: Any, **named: Any) -> CocoMetrics:
        return replace(measured(*arguments, **named), ap=next(aps))

    def stopped(self: Keeper, *arguments: Any, **named: Any) -> None:
        if next(stops, False):
            raise Interrupted(15)
        save(self, *arguments, **named)

    monkeypatch.setattr(Testbed, "evaluate", evaluate)
    monkeypatch.setattr(Keeper, "_save", stopped)
    with pytest.raises(Interrupted):
        run(searched, epochs=4)

    outcome = outcome_of(run(searched, epochs=4).record)

    assert outcome.metrics is not None
    assert (outcome.epoch, outcome.metrics["ap"]) == (2, 0.5)
    assert load_detector(searched / "trained" / "mine", device="cpu").description["epoch"] == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epochs": 2}, "epochs: it has 1, and 2 is asked for"),
        ({"epochs": None, "hours": 1.0}, "--hours: it has None, and 1.0 is asked for"),
        ({"arch": OTHER}, f"architecture: it has {ARCH}, and {OTHER} is asked for"),
    ],
    ids=["epochs", "hours", "arch"],
)
def test_another_request_of_the_same_name_is_refused(searched: Path, asked: dict[str, object], said: str) -> None:
    run(searched, epochs=1)

    with pytest.raises(StudyError) as caught:
        run(searched, **({"epochs": 1} | asked))  # type: ignore[arg-type]

    assert "mine: there is another training of this name: 1 part of its request differs" in caught.value.message
    assert caught.value.first == said
    assert caught.value.fix == "give this one another name: --name OTHER"


def test_a_training_goes_on_with_its_own_recipe_only(searched: Path) -> None:
    with pytest.raises(Interrupted):
        run(searched, Hears(4))
    file = searched / "study.toml"
    file.write_text(file.read_text().replace("batch_size = 8", "batch_size = 4"))

    with pytest.raises(StudyError, match=r"mine: was begun with other recipe; its epochs do not compare") as caught:
        run(searched)

    assert caught.value.first == "recipe.train.batch_size was 8, is 4"
    assert "--name OTHER" in caught.value.fix
    hears = Hears()
    run(searched, hears, name="other", epochs=1)
    assert "warning: structural was trained with another recipe than study.toml has now" in hears.notes


def test_hours_are_turned_into_epochs_once(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run_module, "measure_pace", lambda *_, **__: Pace(epoch_s=1000.0, evaluation_s=10.0, end_s=300.0)
    )
    monkeypatch.setattr(settle, "epochs_that_fit", lambda plan, *_: plan.epochs)
    hears, resumed = Hears(4), Hears()
    with pytest.raises(Interrupted):
        run(searched, hears, epochs=None, hours=0.7)
    assert "2 epochs fit into 0.7 h" in hears.notes

    finished = run(searched, resumed, epochs=None, hours=0.7)

    assert (finished.record.plan.epochs, finished.record.plan.hours) == (2, 0.7)
    assert "time: about" in " ".join(resumed.notes)
    assert run(searched, epochs=None, hours=0.7).before


def killed_here(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("killed", [False, True])
def test_epochs_that_tell_another_pace_let_it_begin_anew_once(
    searched: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(run_module, "measure_pace", lambda *_, **__: Pace(epoch_s=2000.0, evaluation_s=9, end_s=300))
    monkeypatch.setattr(settle, "epochs_that_fit", lambda *_: 3)
    hears = Hears()
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "release_memory", killed_here)
            with pytest.raises(KeyboardInterrupt):
                run(searched, hears, epochs=None, hours=0.7)

    finished = run(searched, hears, epochs=None, hours=0.7)

    (anew,) = [note for note in hears.notes if "begins anew" in note]
    assert anew.endswith(": it begins anew with 3 epochs, as many as fit into what is left of 0.7 h")
    assert hears.epochs == [1, 1, 2, 3]
    assert (finished.record.plan.epochs, finished.record.pace) == (3, None)
    assert same_weights(finished.folder, run(searched, name="other").folder)


def test_the_pace_is_measured_again_as_long_as_nothing_is_trained(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces = iter([2000.0, 500.0])
    monkeypatch.setattr(run_module, "measure_pace", lambda *_, **__: Pace(epoch_s=next(paces), evaluation_s=0, end_s=0))
    monkeypatch.setattr(settle, "epochs_that_fit", lambda plan, *_: plan.epochs)
    with monkeypatch.context() as patch:
        patch.setattr(in_process, "begin_training", killed_here)
        with pytest.raises(KeyboardInterrupt):
            run(searched, epochs=None, hours=0.6)

    assert run(searched, epochs=None, hours=0.6).record.plan.epochs == 4


def test_what_is_refused_leaves_no_folder(searched: Path) -> None:
    with pytest.raises(StudyError, match="with --with-val nothing but test images"):
        run(searched, with_val=True)
    with pytest.raises(Interrupted):
        run(searched, Hears(1, "load"))

    assert not (searched / "trained" / "mine").exists()


def test_no_hours_are_one_epoch(searched: Path) -> None:
    hears = Hears()

    finished = run(searched, hears, epochs=None, hours=0.0, name=None)

    assert (finished.name, finished.record.plan.epochs) == (f"{ARCH}.hours0", 1)
    assert "not even one epoch fits into 0 h: one is trained all the same" in hears.notes


def test_trained_on_validation_images_nothing_is_chosen_by_them(searched: Path) -> None:
    with pytest.raises(StudyError, match="with --with-val nothing but test images can tell how good the detector is"):
        run(searched, with_val=True)
    add_test_images(searched)
    hears = Hears()

    finished = run(searched, hears, with_val=True, epochs=2)
    outcome = outcome_of(finished.record)

    assert (outcome.epoch, outcome.metrics, outcome.last_metrics, outcome.place) == (2, None, None, None)
    assert outcome.test_metrics is not None
    assert not any("AP (x100)" in note and "expected" not in note for note in hears.notes)
    assert {each["ap"] for each in read_curve(finished.folder)["epochs"]} == {None}
    assert finished.record.about["data"]["train"]["images"] == 24
    detector = load_detector(finished.folder, device="cpu")
    assert (detector.description["with_val"], detector.description["metrics"]) == (True, None)
    only_train = run(searched, epochs=2, name="other")
    assert not same_weights(finished.folder, only_train.folder / "last")
    assert outcome_of(only_train.record).test_metrics is not None
    with pytest.raises(StudyError, match="there is another training of this name"):
        run(searched, epochs=2)


def test_trained_on_validation_images_it_resumes_to_the_same_weights(searched: Path, tmp_path: Path) -> None:
    add_test_images(searched)
    shutil.copytree(searched, tmp_path / "other")
    shutil.copytree(searched / "test", tmp_path / "test", dirs_exist_ok=True)
    whole = run(tmp_path / "other", with_val=True, epochs=2)
    with pytest.raises(Interrupted):
        run(searched, Hears(6), with_val=True, epochs=2)

    assert same_weights(whole.folder, run(searched, with_val=True, epochs=2).folder)


def test_other_data_than_the_searchs_is_refused(searched: Path) -> None:
    file = searched / "data" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    text = (searched / "study.toml").read_text()
    shapes = text[text.index("[data.shapes]") : text.index("[space.structural]")]
    (searched / "study.toml").write_text(text.replace(shapes, ""))

    with pytest.raises(StudyError, match=r"the study was made with other data; the numbers do not compare"):
        run(searched)


def test_one_process_at_a_time_is_at_a_training(searched: Path) -> None:
    folder = searched / "trained" / "mine"
    folder.mkdir(parents=True)

    with (
        FileLock(folder / "train.lock"),
        pytest.raises(StudyError, match=r"mine: another process is at this training\n  fix: wait for it"),
    ):
        run(searched)


def test_on_another_device_the_latency_has_no_place_on_the_scale(searched: Path) -> None:
    study = StudyFolder(searched).load("structural")
    fingerprint = study.user_attrs[FINGERPRINT]
    study.set_user_attr(FINGERPRINT, {**fingerprint, "device": {**fingerprint["device"], "model": "another"}})
    hears = Hears()

    outcome = outcome_of(run(searched, hears, epochs=1).record)

    assert (outcome.latency.ms, outcome.latency.ratio > 0) == (None, True)
    assert outcome.place is not None
    (warning,) = [note for note in hears.notes if note.startswith("warning")]
    assert "device.model was another, is " in warning
    assert warning.endswith(
        "on another device than that of the search the latency has no place on the scale of the study"
    )
