from __future__ import annotations

from collections import Counter

import optuna
import pytest
from optuna.samplers import NSGAIISampler

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.config import SearchSettings, StructuralSpace
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search_space import StructuralSearchSpace
from tests.search.conftest import make_study
from tests.search.test_loop import run
from tests.search_space.test_strings import uneven

SPACE = StructuralSpace(
    input_sizes=("64x48",),
    backbones=("resnet18",),
    neck_min_levels=(2, 3),
    neck_max_levels=(5, 6),
    neck_channels=(4,),
    rpns=("rpn",),
    heads=("fc",),
    head_widths=(16, 32),
)


def drawn(count: int, seed: int = 0, worker: int = 0) -> list[DetectorSpec]:
    """Architectures of a first generation of ``count``."""
    space = StructuralSearchSpace(SPACE)
    settings = SearchSettings(seed=seed, population=max(2, count))
    sampler = build_sampler(settings, space, num_trials=0, worker=worker)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    found = []
    for _ in range(count):
        trial = study.ask()
        found.append(space.suggest(trial))
        study.tell(trial, [1.0, 0.5])
    return found


def test_the_first_generation_is_drawn_evenly_from_the_architectures() -> None:
    specs = drawn(400)
    found: Counter[object] = Counter(specs)

    assert StructuralSearchSpace(SPACE).size == 13
    assert uneven(found, 13) < 33  # 99.9 % of what 12 degrees of freedom give
    # each gene drawn by itself would give C4 200 times
    assert sum(spec.neck is None for spec in specs) < 60


@pytest.mark.parametrize(("seed", "worker"), [(1, 0), (0, 1)])
def test_the_first_generation_depends_on_the_seed_and_the_worker_alone(seed: int, worker: int) -> None:
    assert drawn(20) == drawn(20)
    assert drawn(20) != drawn(20, seed, worker)


def test_a_study_that_optunas_own_class_began_goes_on() -> None:
    study = make_study(population=4)
    ours = study.sampler
    study.sampler = NSGAIISampler(population_size=4, seed=0)
    run(study, budget=4)
    study.sampler = ours
    run(study, budget=8)

    assert isinstance(ours, NSGAIISampler)
    assert [len(ours.get_population(study, generation)) for generation in (0, 1)] == [4, 4]
