"""Final trainings on a cluster: what comes back of them, wherever they were trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import create_trial
from safetensors.torch import load, load_file, save

from smnas_optuna.arch import decode
from smnas_optuna.cluster.baton import Baton
from smnas_optuna.cluster.executor import OnCluster
from smnas_optuna.cluster.messages import Begun, Done, Epoch, Event, Measured, Order, Spent, Standing
from smnas_optuna.cluster.pool import Pool
from smnas_optuna.cluster.trainer import Trainer
from smnas_optuna.cluster.workforce import Crowd
from smnas_optuna.data.json_file import read_json
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import StudyError
from smnas_optuna.final_training import settle
from smnas_optuna.final_training.keep import Keeper
from smnas_optuna.final_training.record import read_curve
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.final_training.run import Finished, train_detector
from smnas_optuna.session.executor import Job
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.remote import TOKEN
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import Interrupted

from ..final_training.test_run import Hears, add_test_images, known, outcome_of, run, same_weights, searched
from ..final_training.trainings import ARCH, plan
from ..session.test_remote import timed_by
from ..stopwatches import SECRET, free_port, stopwatch
from .fake_ray import FakeRay, RayActorError
from .test_nodes import ONE_CPU, data, errand_of, make_nodes

__all__ = ["data", "searched"]
APS = {1: 0.5, 2: 0.25, 3: 0.375}
"""AP by epoch of the training that is told."""


def report(epoch: int) -> EpochReport:
    return EpochReport(epoch=epoch, epochs=3, loss=1 / epoch, skipped_steps=0, seconds=2.0)


class Told:
    """A trainer that tells a training of three epochs without training, the weights of an epoch being its number."""

    def __init__(self, node: str, cluster: Cluster) -> None:
        self._node, self._cluster = node, cluster
        self._events = list[Event]()
        self._decided = list[int]()

    def begin(self, name: str, order: Order, checkpoint: bytes | None) -> None:
        done = 0 if checkpoint is None else int(load(checkpoint)["model.weight"])
        self._cluster.begun.append((self._node, done))
        self._events = [Begun([report(epoch) for epoch in range(1, done + 1)], {"kind": "cpu"})]
        self._events += self._rung(done) if done else []
        for epoch in range(done + 1, 4):
            self._events.append(Epoch(report(epoch), save({"model.weight": torch.tensor(epoch)})))
            self._events += self._rung(epoch)
        self._events.append(Done(self._cluster.weights, {}, {}, 0))

    def events(self, after: int) -> list[tuple[int, Event]]:
        """One at a time, and none after a rung before it is decided."""
        before = self._events[after - 1] if after else None
        assert not isinstance(before, Standing) or self._decided[-1:] == [before.rung]
        if isinstance(before, Epoch) and before.report.epoch == self._cluster.dies_after:
            self._cluster.ray.dead.add(self._node)
        if self._node in self._cluster.ray.dead:
            raise RayActorError
        return [(after + 1, self._events[after])]

    def decide(self, rung: int) -> None:
        self._decided.append(rung)

    def _rung(self, epoch: int) -> list[Event]:
        metrics = CocoMetrics(**dict.fromkeys((field.name for field in fields(CocoMetrics)), APS[epoch]))
        return [
            Spent("rungs", 0.25),
            Measured(epoch, metrics),
            Standing({each: APS[each] for each in range(1, epoch + 1)}, epoch),
        ]


class Cluster:
    """Nodes whose trainers tell a training; each dies after the epoch ``dies_after``."""

    def __init__(self, session: Session, data: Path, dies_after: int | None) -> None:
        self.ray, self.dies_after = FakeRay({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}}), dies_after
        self.begun = list[tuple[str, int]]()
        self.weights = save(session.testbed.build(decode(ARCH), 0).state_dict())
        nodes, _ = make_nodes(self.ray, errand_of(data))
        pool = Pool(self.ray, nodes, errand_of(data), ONE_CPU)
        pool.look()
        self.ray.change = lambda node: Told(node, self)
        baton = Baton(session.testbed.measurement_lock)
        self.executor = OnCluster(self.ray, pool, baton, session.testbed, pool.look)

    def train(self, job: Job, keeper: Keeper) -> None:
        with self.executor.baton.held():
            self.executor.train(job, keeper)


@pytest.mark.parametrize("dies_after", [None, 2], ids=["alive", "dead"])
def test_the_weights_of_an_epoch_are_those_of_its_checkpoint_and_a_dead_node_costs_none(
    drawn_dir: Path, data: Path, dies_after: int | None
) -> None:
    hears = Hears()
    session = prepare(StudyFolder(drawn_dir), listener=hears, stop=hears.stop, device="cpu")
    place, seconds = drawn_dir / "trained" / "mine", list[tuple[int, float | None]]()
    cluster = Cluster(session, data, dies_after)
    keeper = Keeper(
        session, plan(epochs=3), place, session.step("train"), lambda each, last: seconds.append((len(each), last))
    )
    job = Job(
        spec=decode(ARCH),
        seed=7,
        recipe=session.settings.train,
        checkpoint=place / "checkpoint.safetensors",
        key={},
        make_folder=lambda: session.folder.make(place),
        rungs=(1, 2, 3),
        images=(),
    )

    cluster.train(job, keeper)

    kept, last = (load_file(folder / "weights.safetensors") for folder in (place, place / "last"))
    assert (kept, last) == ({"weight": torch.tensor(1)}, {"weight": torch.tensor(3)})
    described = [read_json(folder / "detector.json") for folder in (place, place / "last")]
    assert [(each["epoch"], each["metrics"]["ap"]) for each in described if isinstance(each, dict)] == [
        (1, 0.5),
        (3, 0.375),
    ]
    assert [(each["epoch"], each["ap"]) for each in read_curve(place)["epochs"]] == list(APS.items())
    assert hears.epochs == [1, 2, 3]
    assert seconds == [(1, 0.25), (2, 0.25), (3, 0.25)]
    assert hears.notes.count("epoch 1: AP (x100) 50.0, the best so far") == 1
    assert "epoch 2: AP (x100) 25.0" in hears.notes
    assert cluster.begun == ([("a", 0)] if dies_after is None else [("a", 0), ("b", 2)])
    assert ("trains on node b (b)" in hears.notes) == (dies_after is not None)


def there(study_dir: Path, hears: Hears, ray: FakeRay | None = None, **asked: Any) -> Finished:
    """A training on a node that is this process."""
    ray = ray or FakeRay({"a": {"CPU": 1.0}})
    request = TrainRequest(study_dir=study_dir, arch=ARCH, device="cpu", **{"name": "mine", **asked})
    workforce = Crowd(ray, "modular", 1, lambda _: hears)
    return train_detector(request, known(study_dir), listener=hears, stop=hears.stop, workforce=workforce)


@pytest.fixture
def twice(searched: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A study and its copy."""
    return searched, Path(shutil.copytree(searched, tmp_path / "other"))


def add_timed_trial(study_dir: Path, epoch_s: float) -> None:
    seconds = {"train": 2 * epoch_s, "evaluate": 3.0}
    attrs = {"arch": ARCH, "epochs_before": 0, "epochs_done": 2, "seconds": seconds}
    StudyFolder(study_dir).load("structural").add_trial(create_trial(values=(20.0, 0.02), user_attrs=attrs))


@pytest.mark.slow
@pytest.mark.usefixtures("enough_memory")
@pytest.mark.parametrize("with_val", [False, True])
def test_it_ends_as_it_does_here(twice: tuple[Path, Path], with_val: bool) -> None:
    for each in twice:
        add_test_images(each)
    hears = Hears()

    here = run(twice[0], epochs=3, with_val=with_val)
    elsewhere = there(twice[1], hears, epochs=3, with_val=with_val)

    assert same_weights(here.folder, elsewhere.folder)
    assert with_val or same_weights(here.folder / "last", elsewhere.folder / "last")
    one, other = outcome_of(here.record), outcome_of(elsewhere.record)
    assert (one.epoch, one.metrics, one.last_metrics) == (other.epoch, other.metrics, other.last_metrics)
    assert one.test_metrics == other.test_metrics is not None
    assert other.latency.ms is not None
    curves = [[(each["loss"], each["ap"]) for each in read_curve(each.folder)["epochs"]] for each in (here, elsewhere)]
    assert curves[0] == curves[1]
    assert {file.name for file in here.folder.iterdir()} == {file.name for file in elsewhere.folder.iterdir()}
    assert elsewhere.record.about["device"] == {"kind": "cpu", "threads": 1}
    assert there(twice[1], hears, epochs=3, with_val=with_val).before


class StopsAfterAnEpoch(Hears):
    def epoch(self, report: EpochReport) -> None:
        super().epoch(report)
        self.stop.ask(15)


@pytest.mark.slow
@pytest.mark.usefixtures("enough_memory")
@pytest.mark.parametrize(("first", "then"), [(run, there), (there, run)], ids=["here", "there"])
def test_what_was_stopped_goes_on_elsewhere_to_the_same_weights(
    twice: tuple[Path, Path], first: Callable[..., Finished], then: Callable[..., Finished]
) -> None:
    whole, hears = run(twice[0], epochs=4), Hears()

    with pytest.raises(Interrupted):
        first(twice[1], StopsAfterAnEpoch(), epochs=4)
    resumed = then(twice[1], hears, epochs=4)

    assert any("resumes after epoch" in note for note in hears.notes)
    assert hears.epochs[-1] == 4
    assert 1 not in hears.epochs
    assert same_weights(whole.folder, resumed.folder)
    assert same_weights(whole.folder / "last", resumed.folder / "last")


@pytest.mark.slow
@pytest.mark.usefixtures("enough_memory")
def test_a_node_with_another_device_is_refused_before_it_trains(searched: Path) -> None:
    with pytest.raises(Interrupted):
        run(searched, StopsAfterAnEpoch(), epochs=2)
    checkpoint = (searched / "trained" / "mine" / "checkpoint.safetensors").read_bytes()
    file = searched / "study.toml"
    file.write_text(file.read_text() + "[ray]\ncpus = 2\n")

    with pytest.raises(StudyError, match=r"mine: was begun with other device") as caught:
        there(searched, Hears(), FakeRay({"a": {"CPU": 2.0}}), epochs=2)

    assert caught.value.first == "device.threads was 1, is 2"
    assert (searched / "trained" / "mine" / "checkpoint.safetensors").read_bytes() == checkpoint


@pytest.mark.slow
@pytest.mark.usefixtures("enough_memory")
def test_hours_are_turned_into_epochs_by_the_search_and_then_by_its_own(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyError, match=r"no trained trial tells how many epochs take 0\.5 h on a node"):
        there(searched, Hears(), epochs=None, hours=0.5)
    add_timed_trial(searched, epoch_s=900.0)
    monkeypatch.setattr(settle, "epochs_that_fit", lambda *_: 3)
    hears = Hears()

    finished = there(searched, hears, epochs=None, hours=0.5)

    assert "1 epoch fits into 0.5 h" in hears.notes
    assert any(note.startswith("time: about 15 min at the search's pace: epochs of 15 min") for note in hears.notes)
    assert any("it begins anew with 3 epochs" in note for note in hears.notes)
    assert hears.epochs == [1, 1, 2, 3]
    assert same_weights(finished.folder, run(searched, epochs=3, name="other").folder)


@pytest.mark.slow
@pytest.mark.usefixtures("enough_memory")
def test_with_a_stopwatch_it_is_timed_there_and_nodes_know_nothing_of_it(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, ray = free_port(), FakeRay({"a": {"CPU": 1.0}})
    monkeypatch.setenv(TOKEN, SECRET)
    timed_by(searched, port)
    with stopwatch(port, tmp_path):
        finished = there(searched, Hears(), ray=ray, epochs=1)

    outcome = outcome_of(finished.record)
    assert outcome.device["kind"] == "stopwatch"
    assert (outcome.latency.runtime, outcome.latency.ratio > 0) == ("onnxruntime", True)
    assert finished.record.about["device"] == {"kind": "cpu", "threads": 1}
    (trainer,) = [actor.made for actor in ray.actors if isinstance(actor.made, Trainer)]
    assert trainer._session.settings.latency.device is None
