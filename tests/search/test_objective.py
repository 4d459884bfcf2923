from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest
import torch

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.engine.memory import estimate_training
from smnas_optuna.errors import ArchError, OutOfMemoryError
from smnas_optuna.search import bench as bench_module
from smnas_optuna.search import objective as objective_module
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.ground import load_data
from smnas_optuna.search.interrupt import Interrupted, StopRequest
from smnas_optuna.search.listener import Listener
from smnas_optuna.search.objective import CHECKPOINT_FILE, Objective, fitting_images, run_folder
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records

from .conftest import on_duty

SMALL, LARGE = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina", "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"


class StopAfter(Listener):
    """Asks to stop after so many steps of training."""

    def __init__(self, stop: StopRequest, steps: int) -> None:
        self.stop, self.steps = stop, steps
        self.notes: list[str] = []

    def step(self, phase: str, done: int, total: int) -> None:
        if phase == "train" and done == self.steps:
            self.stop.ask(15)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def bench(study_dir: Path) -> Bench:
    settings = load_settings(study_dir)
    _, splits = load_data(study_dir, None, settings, lambda *_: None)
    caches = CachePool(study_dir / "cache", lambda _: None)
    return Bench(study_dir=study_dir, settings=settings, splits=splits, caches=caches, device=torch.device("cpu"))


def make_objective(
    bench: Bench, listener: Listener | None = None, stop: StopRequest | None = None, limits: Limits | None = None
) -> Objective:
    """For what needs no other worker."""
    with on_duty() as crew:
        return Objective(bench, crew, listener or Listener(), stop or StopRequest(), limits=limits or Limits())


@pytest.mark.parametrize("name", ["../../etc", "/etc", "", "a/b", LARGE + "/.."])
def test_a_name_that_is_no_architecture_has_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchError):
        run_folder(tmp_path, name)
    assert run_folder(tmp_path, SMALL) == tmp_path / "runs" / SMALL


def test_a_worker_with_a_share_of_the_cpu_measures_with_all_its_threads(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(bench_module, "measure_alone", lambda *_, **__: seen.append(torch.get_num_threads()))
    before, detector, spec = torch.get_num_threads(), bench.build(decode(SMALL), 0), decode(SMALL)
    shared = replace(bench, threads=before + 2)

    shared.measure_gate(spec, lambda: None)
    shared.measure_latency(detector, spec.input_size, lambda: None)
    bench.measure_gate(spec, lambda: None)

    assert seen == [before + 2, before + 2, before]
    assert torch.get_num_threads() == before
    assert shared.device_description["threads"] == before + 2


def test_an_interrupted_training_is_kept_and_the_next_trial_goes_on_with_it(study: optuna.Study, bench: Bench) -> None:
    checkpoint = run_folder(bench.study_dir, LARGE) / CHECKPOINT_FILE
    stop = StopRequest()
    study.set_user_attr("reference_ms", 1.0)
    first = study.ask()
    with pytest.raises(Interrupted):
        make_objective(bench, StopAfter(stop, 3), stop)(decode(LARGE), first)  # is asked after the fourth
    assert checkpoint.exists()
    second, listener = study.ask(), StopAfter(StopRequest(), -1)

    evaluation = make_objective(bench, listener)(decode(LARGE), second)

    assert listener.notes == [f"{LARGE}: goes on after epoch 1, step 1 of the next"]
    attrs = [record.attrs for record in read_records(study)]
    assert [(each["epochs_before"], each["epochs_done"]) for each in attrs] == [(0, 1), (1, 2)]
    log = (checkpoint.parent / "train.log").read_text()
    assert [log.count(f" epoch {number}/2") for number in (1, 2)] == [1, 1]
    assert 0 <= evaluation.ap <= 1


@pytest.mark.parametrize(
    ("limits", "over", "stored"),
    [(Limits(max_params=1), "max_params", set()), (Limits(max_latency_ms=1e-3), "max_latency_ms", {"gate", "gate_ms"})],
    ids=["too large", "too slow"],
)
def test_what_is_over_budget_is_not_trained(
    study: optuna.Study, bench: Bench, limits: Limits, over: str, stored: set[str]
) -> None:
    study.set_user_attr("reference_ms", 1.0)
    trial = study.ask()

    with pytest.raises(optuna.TrialPruned, match=f"over budget: .*, more than \\[search\\] {over} = "):
        make_objective(bench, limits=limits)(decode(SMALL), trial)

    attrs = trial.user_attrs
    assert attrs["over_budget"] == [over]
    assert attrs[f"violation_{over}"] > 0
    assert {"gate", "gate_ms"} & attrs.keys() == stored
    assert "epochs_done" not in attrs
    assert not (run_folder(bench.study_dir, SMALL) / CHECKPOINT_FILE).exists()


def test_work_that_disturbs_the_first_measurement_does_not_lengthen_all_latencies(
    study: optuna.Study, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = bench.measure_gate(decode(SMALL), lambda: None)
    disturbed = replace(undisturbed, ratio=2.0, reference_p10_ms=7.5, reference_median_ms=73.0, reference_p90_ms=80.0)
    monkeypatch.setattr(Bench, "measure_gate", lambda *_: disturbed)
    monkeypatch.setattr(objective_module, "agree_on_reference_ms", lambda _, __, measured_ms: measured_ms)
    trial = study.ask()

    with pytest.raises(optuna.TrialPruned):
        make_objective(bench, limits=Limits(max_latency_ms=1))(decode(SMALL), trial)

    assert trial.user_attrs["gate_ms"] == pytest.approx(15)


def test_constraints_are_told_once_from_what_it_turned_out_to_be(study: optuna.Study, bench: Bench) -> None:
    study.set_user_attr("reference_ms", 10.0)
    trial = study.ask()
    limits = Limits(max_latency_ms=1e6, max_params=1_000_000)

    evaluation = make_objective(bench, limits=limits)(decode(SMALL), trial)
    study.tell(trial, [evaluation.latency_ms, evaluation.ap])

    (stored,) = study.trials
    excess = {
        "max_latency_ms": evaluation.latency_ms / 1e6 - 1,
        "max_params": stored.user_attrs["num_params"] / 1e6 - 1,
    }
    assert stored.constraints == pytest.approx(excess)
    assert {name: stored.user_attrs[f"violation_{name}"] for name in excess} == pytest.approx(excess)
    assert stored.user_attrs["gate"]["num_blocks"] >= 6
    latency = evaluation.attrs["latency"]
    assert latency["ratio_low"] <= latency["ratio"] <= latency["ratio_high"]
    assert latency["network_ms"] > 0
    assert (latency["runtime"], latency["alone"]) == ("eager", True)


@pytest.mark.parametrize(("keep", "left"), [("front", [LARGE]), ("all", [LARGE, SMALL])])
def test_what_ended_trials_need_no_more_is_removed(
    study: optuna.Study, bench: Bench, keep: str, left: list[str]
) -> None:
    search = bench.settings.search.model_copy(update={"keep_weights": keep})
    bench = Bench(
        study_dir=bench.study_dir,
        settings=bench.settings.model_copy(update={"search": search}),
        splits=bench.splits,
        caches=bench.caches,
        device=bench.device,
    )
    for arch, values in ((SMALL, [2.0, 0.1]), (LARGE, [1.0, 0.2])):
        trial = study.ask()
        store_attrs(trial, {"arch": arch})
        study.tell(trial, values)
        folder = run_folder(bench.study_dir, arch)
        folder.mkdir(parents=True)
        for name in (CHECKPOINT_FILE, "weights.safetensors", "train.log"):
            (folder / name).touch()

    make_objective(bench).tidy(read_records(study))

    runs = bench.study_dir / "runs"
    assert list(runs.rglob(CHECKPOINT_FILE)) == []
    assert sorted(file.parent.name for file in runs.rglob("weights.safetensors")) == sorted(left)
    assert len(list(runs.rglob("train.log"))) == 2


def test_main_memory_decides_how_many_images_are_trained_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = decode(LARGE)
    detector = bench.build(spec, seed=0)
    memory = estimate_training(detector, 64, 64, max_boxes=bench.splits.train.max_boxes)

    for images in (8, 2, 1):
        free = memory.fixed_bytes + images * memory.bytes_per_image
        monkeypatch.setattr(objective_module, "free_memory", partial(int, free))
        assert fitting_images(bench, detector, spec) == images
    monkeypatch.setattr(objective_module, "free_memory", partial(int, memory.fixed_bytes))
    with pytest.raises(OutOfMemoryError, match=r"one image a step takes about \d+ MiB of main memory, and \d+ MiB are"):
        fitting_images(bench, detector, spec)
