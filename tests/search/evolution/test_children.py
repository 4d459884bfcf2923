from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import ModularSpace, SearchSettings
from smnas_optuna.search.evolution.children import ChildGeneration, Individual, Parents
from smnas_optuna.search.evolution.sampler import build_ranking
from smnas_optuna.search_space import ModularSearchSpace, StructuralSearchSpace
from smnas_optuna.search_space.structural import express, gene_choices
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import ELSEWHERE, TOO_LONG, read_record, read_records
from tests.search.conftest import SPACE, limited, make_stage, make_study
from tests.search.test_loop import TINY, run

PARENT = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w64"
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
    individuals = [
        Individual(genome=PARAMS[name], record=read_record(create_trial(values=point, user_attrs={"arch": PARENT})))
        for name, point in points.items()
    ]
    parents, random = Parents(individuals, limits), np.random.default_rng(0)

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


@pytest.mark.parametrize("reason", [TOO_LONG, ELSEWHERE])
def test_what_was_put_off_may_be_a_child_later(reason: str) -> None:
    space = StructuralSearchSpace(TINY)
    study = make_study(space=TINY)
    archs = {encode(space.express(space.draw(np.random.default_rng(seed)))) for seed in range(200)}
    assert len(archs) == space.size == 12
    for arch in archs:
        study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"arch": arch, "reason": reason}))

    prospects = ChildGeneration(space, seed=0).prospects(study)

    assert len(prospects) > 6


def trained(study: optuna.Study, arch: str, latency_ms: float, ap: float) -> None:
    study.add_trial(create_trial(values=(latency_ms, ap), user_attrs={"arch": arch}))


def test_trained_detectors_of_other_studies_in_the_space_are_parents() -> None:
    structural, modular = (optuna.create_study(directions=["minimize", "maximize"]) for _ in range(2))
    space = ModularSearchSpace(ModularSpace(neck_channels=(32,), head_widths=(64,), max_blocks=12), decode(PARENT))
    trained(structural, PARENT, 1.0, 0.9)
    trained(structural, "64x48.resnet18-w8.fpn-p3-p5-c32.rpn.fc-w64", 0.5, 0.9)  # of other kinds
    trained(structural, "no architecture", 0.4, 0.9)
    bad = "64x48.basicblock-w48-222-1-1-1.fpn-p2-p5-c32.rpn.fc-w64"
    modular.add_trial(
        create_trial(
            values=(2.0, 0.1),
            params=dict(space.genome(decode(bad))),
            distributions={name: CategoricalDistribution(each) for name, each in space.choices.items()},
            user_attrs={"arch": bad},
        )
    )

    def narrow(**others: object) -> float:
        """Share of children with the parent's base channels; the other trained detector has 48."""
        children = ChildGeneration(space, seed=0, **others)  # type: ignore[arg-type]
        distributions = {name: CategoricalDistribution(each) for name, each in space.choices.items()}
        made = [children(modular, dict(distributions), []) for _ in range(400)]
        return sum(bool(child["backbone.width"] == 8) for child in made) / 400

    alone = narrow()
    assert narrow(other_trials=lambda: read_records(structural)) > 1.4 * alone


@pytest.mark.parametrize(("drawn", "bred"), [(0.0, 1.0), (1.0, None)])
def test_children_of_the_front_may_be_among_themselves(drawn: float, bred: float | None) -> None:
    space = StructuralSearchSpace(SPACE)
    study = make_study(population=8)
    run(study, budget=12, stage=make_stage(baselines=()))
    ranking = build_ranking(SearchSettings(), Limits())
    children = ChildGeneration(space, seed=0, ranking=ranking, drawn=drawn)
    distributions = {name: CategoricalDistribution(each) for name, each in space.choices.items()}

    found = []
    for _ in range(12):
        children(study, dict(distributions), [])
        if children.ranked:
            found.append(children.origin == "child")

    assert len(found) > 6
    assert sum(found) == len(found) if bred else sum(found) < len(found), "random draws win most of the time"


def test_prospects_are_untried_children() -> None:
    study = make_study(population=8)
    run(study, budget=12, stage=make_stage(baselines=()))
    known = {record.arch for record in read_records(study)}

    children = ChildGeneration(StructuralSearchSpace(SPACE), seed=0)

    prospects = children.prospects(study)
    assert len(prospects) == len(set(prospects)) > 20
    assert not known & {encode(spec) for spec in prospects}
    empty = children.prospects(make_study())
    assert len(empty) > 20, "of a study without any, random draws"
