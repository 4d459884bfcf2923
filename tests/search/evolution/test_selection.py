from __future__ import annotations

from collections import Counter

import optuna
import pytest
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.search.evolution.selection import Selection, SelectionFromAll, trained_trials
from smnas_optuna.study.record import read_records
from tests.search.conftest import closed_form, make_stage, make_study
from tests.search.test_loop import run

POPULATION = 6


def worst_first(study: Study, _population: list[FrozenTrial]) -> list[FrozenTrial]:
    """Selects the slowest of those with the lowest AP: the opposite of an elite."""
    return sorted(trained_trials(study), key=lambda trial: (trial.values[1], -trial.values[0]))[:POPULATION]


def children_of(selection: Selection | None) -> list[dict[str, object]]:
    """Parameters of what is proposed from generation 1 on, mutated and crossed."""
    study = make_study(population=POPULATION, selection=selection)
    run(study, budget=60, stage=make_stage(baselines=()))
    return [
        trial.params
        for trial, record in zip(study.trials, read_records(study), strict=True)
        if (record.generation or 0) > 0
    ]


def test_proposals_come_from_the_parents_that_the_selection_picks() -> None:
    """With the worst as parents, proposals are worse: of two input sizes, the smallest and the largest, the first is
    the least accurate one."""
    elite, anti_elite = children_of(None), children_of(worst_first)

    smallest = [Counter(child["input_size"] for child in each)["64x48"] / len(each) for each in (elite, anti_elite)]
    assert elite != anti_elite
    assert smallest[1] > 1.5 * smallest[0]


def test_parents_are_those_of_optuna_where_nothing_is_late() -> None:
    ours, own = make_study(population=POPULATION), NSGAIISampler(population_size=POPULATION, seed=0)
    run(ours, budget=40, stage=make_stage(baselines=()))
    sampler = ours.sampler
    assert isinstance(sampler, NSGAIISampler)
    members = [*sampler.get_population(ours, 0), *sampler.get_parent_population(ours, 0)]
    first_parents = {trial.number for trial in sampler.get_parent_population(ours, 1)}

    assert first_parents == {trial.number for trial in own._elite_population_selection_strategy(ours, members)}
    assert len(first_parents) == POPULATION


@pytest.mark.parametrize("cached", [True, False])
def test_answers_from_the_cache_are_no_parents(cached: bool) -> None:
    study = make_study(population=2)
    stage = make_stage(baselines=())
    for place in range(3):
        trial = study.ask()
        evaluation = closed_form(stage.space.suggest(trial), trial)
        if cached and place == 2:
            trial.set_user_attr("cached_from", 0)
        study.tell(trial, [evaluation.latency_ms, evaluation.ap])

    trained = [trial.number for trial in trained_trials(study)]

    assert trained == ([0, 1] if cached else [0, 1, 2])
    assert {trial.number for trial in SelectionFromAll(3)(study, [])} == set(trained)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
