from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.samplers import NSGAIISampler

from smnas_optuna.arch import DetectorSpec, EncodedBackboneSpec, decode, encode
from smnas_optuna.config import ModularSpace, SearchSettings, StructuralSpace
from smnas_optuna.search.evolution.children import START
from smnas_optuna.search.evolution.sampler import Sampler, build_sampler
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.stage import Stage
from smnas_optuna.search_space import ModularSearchSpace, SearchSpace, StructuralSearchSpace
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import hypervolume, points_of
from smnas_optuna.study.record import STRUCTURAL, read_records
from tests.search.conftest import SPACE, closed_form, make_stage, make_study
from tests.search.test_loop import TINY, run

WITH_C4 = StructuralSearchSpace(StructuralSpace(input_sizes=("64x48",), backbones=("resnet18",)))
MODULAR = ModularSearchSpace(
    ModularSpace(base_channels=(8, 16), max_blocks=10), decode("64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w64")
)


def drawn(space: SearchSpace, count: int) -> list[DetectorSpec]:
    """The start of ``count`` searches."""
    specs = []
    for seed in range(count):
        sampler = build_sampler(SearchSettings(seed=seed), space, num_trials=0)
        specs.append(space.suggest(optuna.create_study(directions=["minimize", "maximize"], sampler=sampler).ask()))
    return specs


def test_all_architectures_are_equally_likely_at_the_start() -> None:
    """One genome in three has no pyramid, but only 8 of 116 architectures have none."""
    specs = drawn(WITH_C4, 150)

    without = sum(spec.neck is None for spec in specs) / len(specs)
    assert WITH_C4.size == 116
    assert without == pytest.approx(8 / 116, abs=0.06)
    assert len({encode(spec) for spec in specs}) > 70


@pytest.mark.parametrize("surrogate", [True, False])
def test_nothing_is_asked_twice_from_the_first_generation_on(surrogate: bool) -> None:
    study = make_study(population=8, space=TINY, surrogate=surrogate)
    run(study, budget=12, stage=make_stage(TINY, ()))

    assert [record.trained for record in read_records(study)] == [True] * 12


def test_the_surrogate_chooses_once_enough_is_trained() -> None:
    study = make_study(population=8, surrogate=True)
    run(study, budget=30, stage=make_stage(baselines=()))

    chosen = [bool(record.attrs.get("ranked")) for record in read_records(study)]
    assert chosen[:START] == [False] * START
    assert 12 <= sum(chosen) <= 22, "of 22, one in ten is left to plain NSGA-II"


def area(surrogate: bool, seed: int) -> float:
    study = make_study(population=8, seed=seed, surrogate=surrogate)
    run(study, budget=25, stage=make_stage(baselines=()))
    return hypervolume(points_of(read_records(study)), (60.0, 0.0))


def test_it_finds_more_than_plain_nsgaii() -> None:
    gains = [area(True, seed) / area(False, seed) for seed in range(4)]

    assert np.mean(gains) > 1.01
    assert min(gains) > 0.99


def test_the_modules_of_a_parent_are_searched_with_it() -> None:
    sampler = build_sampler(SearchSettings(), MODULAR, num_trials=0, population=4)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)

    def evaluate(spec: DetectorSpec, _trial: optuna.Trial) -> Evaluation:
        assert isinstance(spec.backbone, EncodedBackboneSpec)
        blocks = len("".join(spec.backbone.stages))
        return Evaluation(latency_ms=blocks * spec.backbone.width, ap=0.5 - 1 / blocks, attrs={})

    run(study, evaluate, budget=20, stage=Stage(space=MODULAR))

    records = read_records(study)
    assert len({record.arch for record in records}) == 20
    assert sum(bool(record.attrs.get("ranked")) for record in records) >= 6
    best = max(records, key=lambda record: record.ap or 0.0)
    assert best.ap == pytest.approx(0.4), "10 blocks"


def test_generations_go_on_after_a_restart_and_after_optunas_own_sampler(tmp_path: Path) -> None:
    folder, stage = StudyFolder(tmp_path), make_stage(baselines=())
    study = folder.create(STRUCTURAL, NSGAIISampler(population_size=4, seed=0))
    run(study, budget=5, stage=stage)
    settings = SearchSettings(population=4, surrogate=False)
    for budget in (7, 10):
        again = StudyFolder(tmp_path).load(STRUCTURAL)
        again.sampler = build_sampler(settings, stage.space, num_trials=len(again.trials))
        run(again, budget=budget, stage=stage)

    generations = Counter(record.generation for record in read_records(again) if record.trained)
    assert generations == {0: 4, 1: 4, 2: 2}
    sampler = again.sampler
    assert isinstance(sampler, Sampler)
    assert [len(sampler.get_parent_population(again, generation)) for generation in (1, 2)] == [4, 4]


def test_the_first_generation_may_be_shorter() -> None:
    stage = make_stage(baselines=())
    sampler = build_sampler(SearchSettings(surrogate=False), stage.space, num_trials=0, population=4, first=2)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    run(study, budget=12, stage=stage)

    records = read_records(study)
    assert Counter(record.generation for record in records if record.trained) == {0: 2, 1: 4, 2: 4, 3: 2}
    assert isinstance(sampler, Sampler)
    assert [len(sampler.get_parent_population(study, generation)) for generation in (1, 2, 3)] == [2, 4, 4]


def test_plain_nsgaii_begins_at_random_whatever_is_trained_by_then() -> None:
    study = make_study(population=6)
    run(study, budget=10, stage=make_stage())

    origins = [record.origin for record in read_records(study)]
    assert origins[:6] == ["baseline"] * 2 + ["random"] * 4
    assert "child" in origins[6:]


def test_a_restart_draws_other_numbers_and_so_does_another_worker() -> None:
    space = StructuralSearchSpace(SPACE)

    def first(num_trials: int, worker: int) -> str:
        sampler = build_sampler(SearchSettings(), space, num_trials=num_trials, worker=worker)
        return encode(space.suggest(optuna.create_study(directions=["minimize", "maximize"], sampler=sampler).ask()))

    assert first(0, 0) == first(0, 0)
    assert len({first(0, 0), first(1, 0), first(0, 1)}) == 3


def test_a_gate_is_asked_for_the_best_few() -> None:
    timed: list[str] = []

    def time_gate(spec: DetectorSpec) -> float:
        timed.append(encode(spec))
        return float(spec.input_size.long)

    space = StructuralSearchSpace(SPACE)
    sampler = build_sampler(SearchSettings(), space, num_trials=0, time_gate=time_gate)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    run(study, closed_form, budget=START + 6, stage=make_stage(baselines=()))

    assert 5 <= len(timed) <= 30
    assert len(timed) == len(set(timed))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
