"""Trials that somebody enqueues with Optuna's own ``Study.enqueue_trial``."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import SearchSettings
from smnas_optuna.search.enqueued import misfit, take_enqueued
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.stage import Stage
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import ENQUEUED, ORIGIN, REFERENCE_MS
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import begin_trial, begin_waiting_trial, waiting_trials
from smnas_optuna.study.record import ELSEWHERE, INTERRUPTED, STRUCTURAL, TrialRecord, read_records
from smnas_optuna.workers.crew import Crew, open_crew
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.recovery import recover_dead_trials

from .conftest import BASELINES, SPACE, closed_form, make_stage, make_study, registered
from .test_loop import TINY, Recorder, interrupt_at, run

WANTED = "160x120.resnet34-w12.fpn-p2-p5-c48.rpn.fc-w128"
TOO = "96x72.resnet18-w24.fpn-p3-p5-c64.none.retina"
STAGE = make_stage()


def genome_of(arch: str) -> dict[str, Any]:
    return dict(STAGE.space.genome(decode(arch)))


class Scene:
    """A study, and the crew of each worker that looks at it."""

    def __init__(self, study: optuna.Study, folder: Path, make_crew: Callable[[], Crew]) -> None:
        self.study, self.folder, self.make_crew = study, folder, make_crew

    def run(self, budget: int, evaluate: Any = closed_form, stage: Stage = STAGE, **options: Any) -> Outcome:
        crew = self.make_crew()
        with crew.registered():
            options = {"listener": Listener(), "stop": StopRequest(), **options}
            return search(self.study, stage, evaluate, budget=budget, crew=crew, **options)

    def dead_crew(self) -> Crew:
        """A worker whose process died: its lock stays, and nobody holds it."""
        crew = self.make_crew()
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{crew.me}.lock").touch()
        return crew


@contextmanager
def scene_of(storage: str, tmp_path: Path) -> Iterator[Scene]:
    if storage == "memory":
        with registered(tmp_path) as crew:
            yield Scene(make_study(), tmp_path, lambda: Crew(tmp_path, crew._engine, 0))
        return
    folder = StudyFolder(tmp_path)
    study = folder.create(STRUCTURAL, build_sampler(SearchSettings(surrogate=False), STAGE.space, num_trials=0))
    yield Scene(study, folder.workers, lambda: open_crew(study, folder))


@pytest.fixture(params=["memory", "sqlite"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with scene_of(request.param, tmp_path) as scene:
        yield scene


def test_enqueued_trials_are_trained_in_order_before_anything_else(scene: Scene) -> None:
    for arch in (WANTED, TOO):
        scene.study.enqueue_trial(genome_of(arch))
    recorder = Recorder()

    scene.run(5, listener=recorder)

    assert recorder.asked[:4] == [
        (WANTED, "enqueued"),
        (TOO, "enqueued"),
        (BASELINES[0], "baseline"),
        (BASELINES[1], "baseline"),
    ]
    records = read_records(scene.study)
    assert [record.arch for record in records[:2]] == [WANTED, TOO]
    assert [(record.trained, record.origin, record.generation) for record in records[:2]] == [(True, ENQUEUED, 0)] * 2
    assert {record.worker for record in records} == {records[4].worker}
    assert sum(record.trained for record in records) == 5, "they count towards the budget"
    assert not any(trial.state == TrialState.WAITING for trial in scene.study.trials)


def test_one_that_is_enqueued_during_the_search_is_trained_next(scene: Scene) -> None:
    recorder = Recorder()

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if trial.number == 3:
            scene.study.enqueue_trial(genome_of(WANTED))
        return closed_form(spec, trial)

    scene.run(7, evaluate, listener=recorder)

    assert recorder.asked[4] == (WANTED, "enqueued")


def test_it_goes_before_an_interrupted_architecture(scene: Scene) -> None:
    with pytest.raises(KeyboardInterrupt):
        scene.run(5, interrupt_at(1, KeyboardInterrupt()))
    scene.study.enqueue_trial(genome_of(WANTED))
    recorder = Recorder()

    scene.run(5, listener=recorder)

    assert recorder.asked[:2] == [(WANTED, "enqueued"), (BASELINES[0], "interrupted before")]


@pytest.mark.parametrize("surrogate", [False, True])
def test_the_sampler_completes_what_is_left_open_with_something_untried(surrogate: bool) -> None:
    study, space = make_study(seed=4, space=TINY, surrogate=surrogate), StructuralSearchSpace(TINY)
    few = {"input_size": "64x48"}
    for _ in range(6):
        study.enqueue_trial(few)

    run(study, budget=6, stage=make_stage(TINY, ()))

    records = read_records(study)
    assert len({record.arch for record in records}) == 6, "the space has six such architectures"
    for record, trial in zip(records, study.trials, strict=True):
        assert record.trained
        assert record.origin == ENQUEUED
        assert few.items() <= trial.params.items()
        assert trial.params.keys() == space.choices.keys()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"backbone.width": 9}, "enqueued with backbone.width = 9, which is none of its choices: 8, 12, 16, 24"),
        ({"backbone.width": 8.0}, "enqueued with backbone.width = 8.0, which is none of its choices: 8, 12, 16, 24"),
        ({"neck.kind": None}, "enqueued with neck.kind = None, which is none of its choices: fpn"),
        ({"input_size": ["64x48"]}, "enqueued with input_size = ['64x48'], which is none of its choices: 64x48, "),
        ({"backbone.widht": 8}, "enqueued with 'backbone.widht', which is no parameter of this space: input_size, "),
    ],
)
def test_parameters_outside_of_the_space_fail_the_trial_with_the_reason(
    scene: Scene, params: dict[str, Any], reason: str
) -> None:
    scene.study.enqueue_trial({**genome_of(WANTED), **params})
    recorder = Recorder()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = scene.run(3, listener=recorder)

    first, *others = read_records(scene.study)
    assert (first.state, first.arch) == ("failed", None)
    assert str(first.reason).startswith(reason)
    assert recorder.notes == [f"trial 0 is not trained: {first.reason}"]
    assert outcome.trained == 3
    assert recorder.asked[0] == (BASELINES[0], "baseline")
    assert [record.generation for record in others] == [0, 0, 0]
    assert scene.study.trials[0].system_attrs["NSGAIISampler:generation"] == -1, "it takes no place in the population"


def test_wrong_ones_are_no_failures_of_the_machine(scene: Scene) -> None:
    for _ in range(6):
        scene.study.enqueue_trial({"backbone.width": 9})

    assert not scene.run(2).failed


def test_a_known_architecture_ends_as_a_repeat(scene: Scene) -> None:
    scene.run(2)
    scene.study.enqueue_trial(genome_of(BASELINES[1]))

    scene.run(3)

    records = read_records(scene.study)
    assert (records[2].state, records[2].cached_from) == ("pruned", 1)
    assert records[2].reason == f"{BASELINES[1]} is known from trial 1: AP {records[1].ap:.4f}"
    assert [record.trained for record in records] == [True, True, False, True]


def test_what_another_worker_trains_is_left_to_it(scene: Scene) -> None:
    scene.study.enqueue_trial(genome_of(WANTED))
    other = scene.make_crew()
    with other.registered():
        assert other.claim(WANTED)
        trial = begin_trial(scene.study, other.me, genome_of(WANTED))
        STAGE.space.suggest(trial)
        trial.set_user_attr("arch", WANTED)
        outcome = scene.run(2)

    assert outcome.waits_for_others
    first, _, third = read_records(scene.study)
    assert (first.state, first.reason, first.arch) == ("pruned", ELSEWHERE, WANTED)
    assert third.trained


def test_without_a_budget_for_it_it_waits_for_the_next_search(scene: Scene) -> None:
    scene.run(2)
    scene.study.enqueue_trial(genome_of(WANTED))

    scene.run(2)
    assert [trial.state for trial in waiting_trials(scene.study)] == [TrialState.WAITING]
    scene.run(3)

    assert read_records(scene.study)[2].trained


def test_if_others_have_claimed_the_rest_of_the_budget_it_waits_again(scene: Scene) -> None:
    scene.study.enqueue_trial(genome_of(WANTED))
    other, recorder = scene.make_crew(), Recorder()

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        raise AssertionError("the budget belongs to the other")

    with other.registered():
        assert other.claim(BASELINES[0])
        crew = scene.make_crew()
        real = crew.claims

        def claims() -> dict[str, str]:
            found = real()
            scene.study.set_user_attr("claimed", True)
            if len(found) > 1:  # the other ends, and this worker finds the budget spent
                trial = scene.study.ask()
                STAGE.space.suggest(trial)
                trial.set_user_attr("arch", BASELINES[0])
                scene.study.tell(trial, [1.0, 0.5])
            return found

        crew.claims = claims  # type: ignore[method-assign]
        with crew.registered():
            outcome = search(scene.study, STAGE, evaluate, budget=1, crew=crew, listener=recorder, stop=StopRequest())

    assert outcome.reason == "budget reached: 1 of 1 architectures are trained"
    assert [trial.number for trial in waiting_trials(scene.study)] == [0]
    scene.run(2)
    assert read_records(scene.study)[0].trained


def test_many_that_wait_are_not_held_against_the_search(scene: Scene) -> None:
    for _ in range(21):
        scene.study.enqueue_trial(genome_of(WANTED))

    outcome = scene.run(1)

    assert outcome.reason == "budget reached: 1 of 1 architectures are trained"
    assert len(waiting_trials(scene.study)) == 20


def test_interrupted_in_its_training_it_goes_on_as_what_it_was(scene: Scene) -> None:
    scene.study.enqueue_trial(genome_of(WANTED))
    with pytest.raises(Interrupted):
        scene.run(5, interrupt_at(1, Interrupted(signal.SIGTERM)))
    recorder = Recorder()

    scene.run(1, listener=recorder)

    first, second = read_records(scene.study)
    assert (first.reason, second.trained, second.origin) == (INTERRUPTED, True, ENQUEUED)
    assert recorder.asked == [(WANTED, "interrupted before")]


def test_interrupted_while_it_is_completed_it_waits_again(scene: Scene) -> None:
    scene.study.enqueue_trial({"input_size": "96x72"})
    sampler = scene.study.sampler

    class Stopped(optuna.samplers.NSGAIISampler):
        def sample_relative(self, *_: Any) -> dict[str, Any]:
            raise Interrupted(signal.SIGTERM)

    scene.study.sampler = Stopped()
    with pytest.raises(Interrupted):
        scene.run(1)
    assert [trial.number for trial in waiting_trials(scene.study)] == [0]
    assert scene.make_crew().claims() == {}
    scene.study.sampler = sampler

    scene.run(1)

    (record,) = read_records(scene.study)
    assert record.trained
    assert str(record.arch).startswith("96x72.")


def test_interrupted_just_before_its_training_it_keeps_no_claim(scene: Scene) -> None:
    scene.study.enqueue_trial(genome_of(WANTED))
    looks = [0]

    def other_trials() -> list[TrialRecord]:
        looks[0] += 1
        if looks[0] == 2:  # the architecture is claimed
            raise Interrupted(signal.SIGTERM)
        return []

    crew = scene.make_crew()
    with crew.registered():
        with pytest.raises(Interrupted):
            search(
                scene.study,
                replace(STAGE, other_trials=other_trials),
                closed_form,
                budget=1,
                crew=crew,
                listener=Listener(),
                stop=StopRequest(),
            )
        assert crew.claims() == {}
    assert [trial.number for trial in waiting_trials(scene.study)] == [0]


class StopAfter(StopRequest):
    """Stops a search that does not come to an end."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted(signal.SIGTERM)


@pytest.mark.parametrize("claim", ["trial 3", REFERENCE_MS])
def test_only_claims_of_architectures_count_towards_the_budget(scene: Scene, claim: str) -> None:
    other = scene.make_crew()
    with other.registered():
        assert other.claim(claim)

        assert scene.run(2, stop=StopAfter(10)).trained == 2


@pytest.mark.parametrize("moment", ["before it runs", "before its architecture is known"])
def test_if_its_process_dies_nothing_is_lost(scene: Scene, moment: str) -> None:
    scene.study.enqueue_trial(genome_of(WANTED))
    dead = scene.dead_crew()
    if moment == "before it runs":
        assert dead.claim("trial 0")
    else:
        assert take_enqueued(scene.study, dead) is not None
    recorder = Recorder()

    scene.run(1, listener=recorder)

    expected = [] if moment == "before it runs" else ["trial 0 (enqueued): its process died; it waits again"]
    assert recorder.notes == expected
    assert recorder.asked == [(WANTED, "enqueued")]
    assert [record.trained for record in read_records(scene.study)] == [True]
    assert scene.make_crew().claims() == {}


def test_one_that_runs_belongs_to_its_worker_from_the_first_moment(scene: Scene) -> None:
    scene.study.enqueue_trial(genome_of(WANTED), user_attrs={"memo": "mine"})
    other = scene.make_crew()
    with other.registered():
        assert take_enqueued(scene.study, other) is not None

        recover_dead_trials(scene.study, scene.make_crew(), lambda text: pytest.fail(text))

        (trial,) = scene.study.trials
        assert (trial.state, trial.user_attrs) == (
            TrialState.RUNNING,
            {"memo": "mine", "worker": other.me, ORIGIN: ENQUEUED},
        )


def test_two_workers_take_each_trial_once(tmp_path: Path) -> None:
    """Optuna's own ``ask`` does not: four threads on SQLite began 60 trials 76 times."""
    count, num_workers, patience_s = 20, 3, 120
    study = StudyFolder(tmp_path).create(STRUCTURAL, optuna.samplers.NSGAIISampler())
    for number in range(count):
        study.enqueue_trial({"x": number})
    taken: list[list[int]] = [[] for _ in range(num_workers)]
    crews = []
    for _ in range(num_workers):
        mine = StudyFolder(tmp_path).load(STRUCTURAL)
        crews.append((mine, open_crew(mine, StudyFolder(tmp_path))))
    crews[0][1].claim("x")  # makes the table
    start, deadline = threading.Barrier(num_workers, timeout=patience_s), time.monotonic() + patience_s

    def work(worker: int) -> None:
        mine, crew = crews[worker]
        start.wait()
        while sum(map(len, taken)) < count and time.monotonic() < deadline:
            trial = take_enqueued(mine, crew)
            if trial is not None:
                taken[worker].append(trial.number)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in range(num_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=patience_s)

    assert not any(thread.is_alive() for thread in threads)
    assert sorted(number for each in taken for number in each) == list(range(count))
    for worker, (_, crew) in enumerate(crews):
        assert {t.number for t in study.trials if t.user_attrs["worker"] == crew.me} == set(taken[worker])


def test_a_trial_that_waits_no_longer_is_not_begun(scene: Scene) -> None:
    scene.study.enqueue_trial(genome_of(WANTED))
    (seen,) = waiting_trials(scene.study)
    scene.run(1)

    assert begin_waiting_trial(scene.study, seen, {"worker": "late"}) is None
    assert read_records(scene.study)[0].worker != "late"


def test_a_part_of_a_genome_fits() -> None:
    space = StructuralSearchSpace(SPACE)

    assert misfit(space, {}) is None
    assert misfit(space, {"backbone.width": 8}) is None
    assert str(misfit(space, {"backbone.width": True})).startswith("enqueued with backbone.width = True")
    assert encode(space.express(genome_of(WANTED))) == WANTED
