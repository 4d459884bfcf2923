from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from smnas_optuna.arch import decode
from smnas_optuna.search import objective as objective_module
from smnas_optuna.search.gate import Gate, GateTiming
from smnas_optuna.search.objective import Objective
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.samples import read_found, read_images
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.attributes import CHILD, ENQUEUED, ORIGIN, store_attrs
from smnas_optuna.study.folder import CHECKPOINT_FILE, StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .conftest import registered

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]  # trains detectors
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
def session(drawn_dir: Path) -> Session:
    return prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu")


def make_objective(
    session: Session, listener: Listener | None = None, stop: StopRequest | None = None, limits: Limits | None = None
) -> Objective:
    """For what needs no other worker."""
    session = replace(session, listener=listener or Listener(), stop=stop or StopRequest())
    with registered() as crew:
        return Objective(session, crew, limits=limits or Limits())


def test_an_interrupted_training_is_kept_and_the_next_trial_goes_on_with_it(
    study: optuna.Study, session: Session
) -> None:
    checkpoint = session.folder.run(LARGE) / CHECKPOINT_FILE
    stop = StopRequest()
    study.set_user_attr("reference_ms", 1.0)
    first = study.ask()
    with pytest.raises(Interrupted):
        make_objective(session, StopAfter(stop, 3), stop)(decode(LARGE), first)  # is asked after the fourth
    assert checkpoint.exists()
    second, listener = study.ask(), StopAfter(StopRequest(), -1)

    evaluation = make_objective(session, listener)(decode(LARGE), second)

    assert listener.notes == [f"{LARGE}: resumes after epoch 1, step 1 of the next"]
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
    study: optuna.Study, session: Session, limits: Limits, over: str, stored: set[str]
) -> None:
    study.set_user_attr("reference_ms", 1.0)
    trial = study.ask()

    with pytest.raises(optuna.TrialPruned, match=f"over budget: .*, more than \\[search\\] {over} = "):
        make_objective(session, limits=limits)(decode(SMALL), trial)

    attrs = trial.user_attrs
    assert attrs["over_budget"] == [over]
    assert attrs[f"violation_{over}"] > 0
    assert {"gate", "gate_ms"} & attrs.keys() == stored
    assert "epochs_done" not in attrs
    assert not (session.folder.run(SMALL) / CHECKPOINT_FILE).exists()


def test_work_that_disturbs_the_first_measurement_does_not_lengthen_all_latencies(
    study: optuna.Study, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = session.testbed.measure_gate(decode(SMALL), lambda: None)
    disturbed = replace(undisturbed, ratio=2.0, reference_p10_ms=7.5, reference_median_ms=73.0, reference_p90_ms=80.0)
    monkeypatch.setattr(Testbed, "measure_gate", lambda *_: disturbed)
    monkeypatch.setattr(objective_module, "agree_on_reference_ms", lambda _, __, measured_ms: measured_ms)
    trial = study.ask()

    with pytest.raises(optuna.TrialPruned):
        make_objective(session, limits=Limits(max_latency_ms=1))(decode(SMALL), trial)

    assert trial.user_attrs["gate_ms"] == pytest.approx(15)


def test_constraints_are_told_once_from_what_it_turned_out_to_be(study: optuna.Study, session: Session) -> None:
    study.set_user_attr("reference_ms", 10.0)
    trial = study.ask()
    limits = Limits(max_latency_ms=1e6, max_params=1_000_000)

    evaluation = make_objective(session, limits=limits)(decode(SMALL), trial)
    study.tell(trial, [evaluation.latency_ms, evaluation.ap])

    (stored,) = study.trials
    assert {name: stored.user_attrs[f"violation_{name}"] for name in stored.constraints} == stored.constraints
    assert stored.constraints["max_params"] == pytest.approx(stored.user_attrs["num_params"] / 1e6 - 1)
    told_ms = 1e6 * (1 + stored.constraints["max_latency_ms"])
    references_ms = [each["reference_p10_ms"] for each in (stored.user_attrs["gate"], evaluation.attrs["latency"])]
    factor = told_ms / evaluation.attrs["latency"]["ratio"]
    assert min(references_ms) / 1.5 < factor < 1.5 * max(references_ms), "in real ms, not in those of the constant"
    assert stored.user_attrs["gate"]["num_blocks"] >= 6
    latency = evaluation.attrs["latency"]
    assert latency["ratio_low"] <= latency["ratio"] <= latency["ratio_high"]
    assert latency["network_ms"] > 0
    assert (latency["runtime"], latency["alone"]) == ("eager", True)
    assert latency["runtime_version"] is None, "torch's is among the versions of the trial"
    kept = read_images(session.folder)
    assert kept is not None
    assert len(kept.images) == 12, "all that the tiny study has"
    assert read_found(session.folder.run(SMALL), kept.content, kept.images) is not None


def end_trial(study: optuna.Study, session: Session, arch: str, values: tuple[float, float]) -> None:
    """A trained trial with all files that one may leave."""
    trial = study.ask()
    store_attrs(trial, {"arch": arch})
    study.tell(trial, values)
    folder = session.folder.run(arch)
    folder.mkdir(parents=True)
    for name in (CHECKPOINT_FILE, "weights.safetensors", "train.log"):
        (folder / name).touch()


def test_each_ended_trial_is_tidied_once_and_again_when_it_leaves_the_front(
    study: optuna.Study, session: Session
) -> None:
    objective, weights = make_objective(session), session.folder.run(SMALL) / "weights.safetensors"
    end_trial(study, session, SMALL, (2.0, 0.1))
    objective.tidy(read_records(study))
    assert weights.exists()
    checkpoint = session.folder.run(SMALL) / CHECKPOINT_FILE
    checkpoint.touch()  # of another worker that trains it again, under other limits
    objective.tidy(read_records(study))
    assert checkpoint.exists()

    end_trial(study, session, LARGE, (1.0, 0.2))
    objective.tidy(read_records(study))

    assert not weights.exists()
    weights.touch()
    objective.tidy(read_records(study))
    assert weights.exists(), "what is removed once is not looked for again"


@pytest.mark.parametrize("reason", [None, "interrupted"])
def test_the_checkpoint_of_an_architecture_that_is_tried_again_stays(
    study: optuna.Study, session: Session, reason: str | None
) -> None:
    end_trial(study, session, SMALL, (2.0, 0.1))
    again = study.ask()
    store_attrs(again, {"arch": SMALL})
    if reason is not None:
        store_attrs(again, {"reason": reason})
        study.tell(again, state=optuna.trial.TrialState.FAIL)

    make_objective(session).tidy(read_records(study))

    assert (session.folder.run(SMALL) / CHECKPOINT_FILE).exists()


def test_what_would_be_on_the_front_without_limits_keeps_its_weights(study: optuna.Study, session: Session) -> None:
    end_trial(study, session, SMALL, (1.0, 0.1))
    end_trial(study, session, LARGE, (2.0, 0.2))
    small, large = read_records(study)

    make_objective(session).tidy([small, replace(large, feasible=False)])

    assert (session.folder.run(LARGE) / "weights.safetensors").exists(), "the unit of latency may still fall"
    assert (session.folder.run(SMALL) / "weights.safetensors").exists()


@pytest.mark.parametrize(("keep", "left"), [("front", [LARGE]), ("all", [LARGE, SMALL])])
def test_what_ended_trials_need_no_more_is_removed(
    study: optuna.Study, session: Session, keep: str, left: list[str]
) -> None:
    search = session.settings.search.model_copy(update={"keep_weights": keep})
    settings = session.settings.model_copy(update={"search": search})
    session = replace(session, testbed=replace(session.testbed, settings=settings))
    for arch, values in ((SMALL, (2.0, 0.1)), (LARGE, (1.0, 0.2))):
        end_trial(study, session, arch, values)

    make_objective(session).tidy(read_records(study))

    runs = session.folder.runs
    assert list(runs.rglob(CHECKPOINT_FILE)) == []
    assert sorted(file.parent.name for file in runs.rglob("weights.safetensors")) == sorted(left)
    assert len(list(runs.rglob("train.log"))) == 2


def test_a_gate_latency_that_was_measured_to_choose_is_not_measured_again(
    study: optuna.Study, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.set_user_attr("reference_ms", 1.0)
    gate = Gate(session)
    ratio = gate.ratio(decode(SMALL))
    timing = gate.take(decode(SMALL))
    assert timing is not None
    monkeypatch.setattr(gate, "take", {decode(SMALL): GateTiming(stats=timing.stats, seconds=1000.0)}.get)
    monkeypatch.setattr(Testbed, "measure_gate", lambda *_: pytest.fail("it is measured again"))
    trial = study.ask()

    with registered() as crew, pytest.raises(optuna.TrialPruned, match="over budget"):
        Objective(session, crew, limits=Limits(max_latency_ms=1e-3), gate=gate)(decode(SMALL), trial)

    (record,) = read_records(study)
    assert record.gate_ratio == ratio
    assert record.attrs["seconds"]["gate"] == pytest.approx(1000, abs=50)
    assert 0 <= record.attrs["seconds"]["bookkeeping"] < 500, "the seconds before are no part of it"


@pytest.mark.parametrize(("origin", "end"), [(CHILD, optuna.TrialPruned), (ENQUEUED, Interrupted)])
def test_what_somebody_has_enqueued_is_not_pruned_by_comparison(
    study: optuna.Study,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    origin: str,
    end: type[Exception],
) -> None:
    def dominated(*_: object) -> None:
        raise optuna.TrialPruned("dominated")

    monkeypatch.setattr(objective_module, "prune_dominated", dominated)
    study.set_user_attr("reference_ms", 1.0)
    trial, stop = study.ask(), StopRequest()
    store_attrs(trial, {ORIGIN: origin})

    with pytest.raises(end):
        make_objective(session, StopAfter(stop, 1), stop)(decode(SMALL), trial)
