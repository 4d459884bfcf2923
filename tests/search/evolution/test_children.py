from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import encode
from smnas_optuna.search.evolution.children import ChildGeneration, Parents
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.search_space.structural import express, gene_choices
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from tests.search.conftest import SPACE, limited, make_stage, make_study
from tests.search.test_loop import TINY, run

PARAMS = {"slow": {"x": 0}, "fast": {"x": 1}}


@pytest.mark.parametrize(
    ("points", "limits", "winners"),
    [
        ({"slow": (2.0, 0.1), "fast": (1.0, 0.1)}, Limits(), {1}),
        ({"slow": (2.0, 0.3), "fast": (1.0, 0.1)}, Limits(), {0, 1}),
        ({"slow": (1.0, 0.1), "fast": (1.0, 0.1)}, Limits(), {0, 1}),
        ({"slow": (2.0, 0.3), "fast": (1.0, 0.1)}, Limits(max_latency_ms=1.5), {1}),
        ({"slow": (3.0, 0.3), "fast": (2.0, 0.1)}, Limits(max_latency_ms=1.5), {1}),
    ],
    ids=["dominated", "a better AP", "equal", "over the limit", "farther over the limit"],
)
def test_a_tournament_of_two(points: dict[str, tuple[float, float]], limits: Limits, winners: set[int]) -> None:
    trials = [
        create_trial(
            values=point, params=PARAMS[name], distributions={"x": optuna.distributions.CategoricalDistribution([0, 1])}
        )
        for name, point in points.items()
    ]
    parents, random = Parents(trials, limits), np.random.default_rng(0)

    winner = [parents.pick(random)["x"] for _ in range(100)]

    # Both places of a tournament may be the same trial.
    assert len(parents) == 2
    assert winner.count(1) > (60 if winners == {1} else 30)
    assert winner.count(1) < (90 if winners == {1} else 70)


@pytest.mark.parametrize("seed", range(5))
def test_children_are_genomes_of_the_space_and_new(seed: int) -> None:
    study = make_study(seed=seed, population=8)
    run(study, budget=30, stage=make_stage(baselines=()))
    children = ChildGeneration(StructuralSearchSpace(SPACE), seed=seed)
    parents = study.get_trials(deepcopy=False)[:8]

    known = {record.arch for record in read_records(study)}
    choices = gene_choices(SPACE)
    for _ in range(50):
        child = children(study, dict(parents[0].distributions), parents)
        assert set(child) == set(choices)
        assert all(child[name] in values for name, values in choices.items())
        assert encode(express(child)) not in known


def test_a_child_is_none_that_the_limit_pruned_but_may_be_what_a_smaller_one_did() -> None:
    study = make_study(population=4, limits=Limits(max_seconds=5), space=TINY)
    run(study, limited(5), budget=100, stage=make_stage(TINY, ()), limits=Limits(max_seconds=5))
    records = read_records(study)
    fast = {record.arch for record in records if record.trained}
    slow = {record.arch for record in records if record.pruned and record.pruned.estimated_seconds is not None}
    assert (len(fast), len(slow)) == (6, 6), "all is known"
    parents = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])[:1]

    def made(limit: float) -> set[str]:
        children = ChildGeneration(StructuralSearchSpace(TINY), seed=0, limits=Limits(max_seconds=limit))
        return {encode(express(children(study, dict(parents[0].distributions), parents))) for _ in range(30)}

    assert made(limit=100) <= slow
    assert made(limit=5) & fast, "nothing new is left, so that the cache answers"


def test_after_the_first_generation_nothing_is_asked_twice_while_there_is_something_new() -> None:
    study = make_study(population=4)
    run(study, budget=60)

    records = read_records(study)
    repeated = [record for record in records if record.cached_from is not None]
    assert all((record.generation or 0) == 0 for record in repeated)
