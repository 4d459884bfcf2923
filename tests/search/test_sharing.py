"""Several workers on one study, each a search of its own; turns are taken inside of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.samplers import NSGAIISampler
from sqlalchemy import Engine, create_engine

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.errors import DeviceFault
from smnas_optuna.search.evolution.population import join_population
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.objective import agree_on_reference_ms
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import REFERENCE_MS, store_attrs
from smnas_optuna.study.optuna_private import begin_trial
from smnas_optuna.study.record import ELSEWHERE, read_records
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.interrupt import StopRequest

from .conftest import BASELINES, closed_form, make_blind_study, make_stage, make_study, registered
from .test_loop import TINY

Evaluate = Callable[[DetectorSpec, optuna.Trial], Evaluation]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


class Worker:
    """A worker that searches with a study of its own view, as far as it gets."""

    def __init__(self, study: optuna.Study, folder: Path, engine: Engine) -> None:
        self.study, self.crew = study, Crew(folder, engine, 0)

    def run(self, evaluate: Evaluate, budget: int, **options: object) -> Outcome:
        stage = options.get("stage", make_stage())
        with self.crew.registered():
            return search(
                self.study,
                stage,  # type: ignore[arg-type]
                evaluate,
                budget=budget,
                crew=self.crew,
                listener=Listener(),
                stop=StopRequest(),
            )


def test_while_one_trains_the_other_takes_what_comes_next(study: optuna.Study, tmp_path: Path, engine: Engine) -> None:
    one, other = Worker(study, tmp_path, engine), Worker(study, tmp_path, engine)
    outcomes: list[Outcome] = []

    def meanwhile(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if encode(spec) == BASELINES[0] and not outcomes:
            outcomes.append(other.run(closed_form, budget=6))
        return closed_form(spec, trial)

    outcomes.append(one.run(meanwhile, budget=6))

    records = read_records(study)
    assert records[0].arch == BASELINES[0]
    assert records[1].arch == BASELINES[1], "the other does not wait for the first baseline"
    assert {record.worker for record in records} == {one.crew.me, other.crew.me}
    trained = [record.arch for record in records if record.trained]
    assert len(trained) == len(set(trained)) == 6
    assert outcomes[0].reason == "other workers have the rest of the work: 1 being trained"
    assert outcomes[1].reason == "budget reached: 6 of 6 architectures are trained"
    assert one.crew.claims() == {}


def test_who_samples_what_another_worker_trains_asks_again(tmp_path: Path, engine: Engine) -> None:
    study = make_blind_study()
    one, other = Worker(study, tmp_path, engine), Worker(study, tmp_path, engine)
    stage, nested = make_stage(TINY, ()), [False]

    def meanwhile(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if not nested[0]:
            nested[0] = True
            other.run(closed_form, budget=100, stage=stage)
        return closed_form(spec, trial)

    outcome = one.run(meanwhile, budget=100, stage=stage)

    records = read_records(study)
    other_trials = [record for record in records if record.reason == ELSEWHERE]
    assert other_trials, "one of 12 was being trained all the time"
    assert {record.state for record in other_trials} == {"pruned"}
    assert {record.arch for record in other_trials} == {records[0].arch}
    assert outcome.reason == "space exhausted: all 12 architectures are known"
    assert len({record.arch for record in records if record.trained}) == sum(r.trained for r in records) == 12
    generations = {t.system_attrs["NSGAIISampler:generation"] for t in study.trials if t.number in
                   {record.number for record in other_trials}}  # fmt: skip
    assert generations == {-1}, "it takes no place in the population"


def test_an_answer_that_came_in_before_the_claim_is_taken(study: optuna.Study, tmp_path: Path, engine: Engine) -> None:
    worker, colleague = Worker(study, tmp_path, engine), Crew(tmp_path, engine, 0)
    real, calls = worker.crew.claim, list[str]()

    def slow_claim(arch: str) -> bool:
        if arch == BASELINES[0] and not calls:
            calls.append(arch)  # the colleague trains it between the look at the study and the claim
            trial = begin_trial(study, colleague.me, make_stage().space.genome(decode(arch)))
            join_population(study, trial)
            spec = make_stage().space.suggest(trial)
            store_attrs(trial, {"arch": arch})
            evaluation = closed_form(spec, trial)
            study.tell(trial, [evaluation.latency_ms, evaluation.ap])
        return real(arch)

    worker.crew.claim = slow_claim  # type: ignore[method-assign]
    worker.run(closed_form, budget=3)

    records = [record for record in read_records(study) if record.arch == BASELINES[0]]
    assert [record.trained for record in records] == [True, False]
    assert records[1].cached_from == records[0].number
    assert worker.crew.claims() == {}


def test_a_trial_that_finishes_late_becomes_a_parent() -> None:
    study = make_study(seed=2)  # few others have its two genes
    stage, late = make_stage(), decode("160x120.resnet50-w24.fpn-p2-p6-c64.rpn.fc-w256")
    slow = begin_trial(study, "a slow worker", stage.space.genome(late))
    assert join_population(study, slow) == 0
    stage.space.suggest(slow)
    store_attrs(slow, {"arch": encode(late)})
    with registered() as crew:
        search(study, stage, closed_form, budget=18, crew=_Busy(crew), listener=Listener(), stop=StopRequest())  # type: ignore[arg-type]
    assert max(record.generation or 0 for record in read_records(study)) >= 2, "its generation is long over"

    sampler = study.sampler
    assert isinstance(sampler, NSGAIISampler)
    next_generation = 1 + max(record.generation or 0 for record in read_records(study))
    evaluation = closed_form(late, slow)
    study.tell(slow, [evaluation.latency_ms, evaluation.ap])

    parents = sampler.get_parent_population(study, next_generation)
    assert slow.number in {parent.number for parent in parents}, "it is on the front, and among six parents"


class _Busy:
    """A crew in which whoever else is named is alive."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def __getattr__(self, name: str) -> object:
        return getattr(self._crew, name)

    def clean_up_after(self, worker: str) -> object:
        return self._crew.clean_up_after(self._crew.me)


@pytest.mark.slow
@pytest.mark.parametrize("comes", [True, False], ids=["the other says it", "the other died with its claim"])
def test_workers_agree_on_the_unit_of_latency(study: optuna.Study, tmp_path: Path, engine: Engine, comes: bool) -> None:
    me, other = Crew(tmp_path, engine, 0), Crew(tmp_path, engine, 0)
    assert other.claim(REFERENCE_MS)
    real = me.claim

    def claim(arch: str) -> bool:
        if comes:
            study.set_user_attr(REFERENCE_MS, 5.0)
        return real(arch)

    me.claim = claim  # type: ignore[method-assign]

    assert agree_on_reference_ms(study, me, 7.0) == (5.0 if comes else 7.0)
    other.release(REFERENCE_MS)
    assert agree_on_reference_ms(study, other, 9.0) == (5.0 if comes else 7.0)
    assert other.claims() == {}


@pytest.mark.parametrize("stored", ["x", 0, -1.0, [5.0], None], ids=str)
def test_a_constant_that_is_none_is_set_anew(
    study: optuna.Study, tmp_path: Path, engine: Engine, stored: object
) -> None:
    study.set_user_attr(REFERENCE_MS, stored)

    assert agree_on_reference_ms(study, Crew(tmp_path, engine, 0), 7.0) == 7.0
    assert study.user_attrs[REFERENCE_MS] == 7.0


def test_a_device_that_fails_costs_its_trial_and_ends_the_worker(
    study: optuna.Study, tmp_path: Path, engine: Engine
) -> None:
    def faulty(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if encode(spec) == BASELINES[1]:
            raise DeviceFault("the GPU cannot be used by this process any more: assert", fix="x")
        return closed_form(spec, trial)

    with pytest.raises(DeviceFault):
        Worker(study, tmp_path, engine).run(faulty, budget=5)
    outcome = Worker(study, tmp_path, engine).run(faulty, budget=5)

    records = read_records(study)
    assert outcome.trained == 5
    failed = [record for record in records if record.state == "failed"]
    assert [(record.arch, record.reason) for record in failed] == [
        (BASELINES[1], "DeviceFault: the GPU cannot be used by this process any more: assert")
    ]
    assert Crew(tmp_path, engine, 0).claims() == {}
