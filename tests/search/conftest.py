"""A search without training: a small space, and objectives in closed form."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.samplers import NSGAIISampler
from sqlalchemy import create_engine

from smnas_optuna.arch import BackboneSpec, DetectorSpec, decode
from smnas_optuna.config import SearchSettings, StructuralSpace
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.evolution.selection import Selection
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.stage import Stage
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.study.limits import Limits
from smnas_optuna.workers.crew import Crew

SPACE = StructuralSpace(
    input_sizes=("64x48", "96x72", "128x96", "160x120"),
    backbones=("resnet18", "resnet34", "resnet50"),
    backbone_widths=(8, 12, 16, 24),
    necks=("fpn",),
    neck_min_levels=(2, 3),
    neck_max_levels=(5, 6),
    neck_channels=(32, 48, 64),
    neck_extras=("pool",),
    rpns=("rpn",),
    heads=("retina", "fc"),
    head_widths=(64, 128, 256),
)
BASELINES = ("64x48.resnet18-w8.fpn-p2-p5-c32.none.retina", "128x96.resnet34-w16.fpn-p2-p5-c64.rpn.fc-w256")


def make_stage(space: StructuralSpace = SPACE, baselines: tuple[str, ...] = BASELINES) -> Stage:
    return Stage(space=StructuralSearchSpace(space), baselines=[decode(arch) for arch in baselines])


def make_study(
    seed: int = 0,
    population: int = 6,
    num_trials: int = 0,
    limits: Limits | None = None,
    space: StructuralSpace = SPACE,
    surrogate: bool = False,
    selection: Selection | None = None,
) -> optuna.Study:
    """A study in memory; of plain NSGA-II, which takes a hundredth of the time, unless ``surrogate`` is True."""
    settings = SearchSettings(seed=seed, population=population, surrogate=surrogate)
    sampler = build_sampler(
        settings, StructuralSearchSpace(space), num_trials=num_trials, limits=limits, selection=selection
    )
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)


def make_blind_study(population: int = 12) -> optuna.Study:
    """A study whose first generation repeats itself: Optuna draws it gene by gene."""
    return optuna.create_study(
        directions=["minimize", "maximize"], sampler=NSGAIISampler(population_size=population, seed=0)
    )


@contextmanager
def registered(folder: Path | None = None) -> Iterator[Crew]:
    """A worker of a study that is kept in memory; alone, unless others have locks in ``folder``."""
    with ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        crew = Crew(folder, engine, study_id=0)
        stack.enter_context(crew.registered())
        yield crew


def closed_form(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
    """More pixels, width and depth cost time and bring accuracy, with diminishing returns; some pay better."""
    area = spec.input_size.long * spec.input_size.short / (64 * 48)
    assert isinstance(spec.backbone, BackboneSpec)
    assert spec.neck is not None
    depth = {"resnet18": 1.0, "resnet34": 1.7, "resnet50": 2.0}[spec.backbone.family]
    width = spec.backbone.width / 8
    head = 1.0 if spec.rpn is None else 1.3
    levels = 1.25 if spec.neck.min_level == 2 else 1.0
    channels = spec.neck.channels / 32
    latency = area * (depth * width + levels * channels * head)
    gain = 0.30 * (1 - 1 / area) + 0.15 * (1 - 1 / width) + 0.08 * (depth - 1) ** 0.5 + 0.05 * (levels > 1)
    gain += 0.03 * (1 - 1 / channels) + 0.06 * (spec.rpn is not None)
    trial.set_user_attr("epochs_done", 1)
    return Evaluation(latency_ms=latency, ap=0.1 + gain, attrs={"num_params": round(1000 * depth * width)})


def limited(max_seconds: float | None) -> Callable[[DetectorSpec, optuna.Trial], Evaluation]:
    """``closed_form`` that prunes what would take longer: a training takes as many seconds as a detection ms."""

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        evaluation = closed_form(spec, trial)
        if max_seconds is not None and evaluation.latency_ms > max_seconds:
            trial.set_user_attr("estimated_seconds", evaluation.latency_ms)
            raise optuna.TrialPruned(f"would take {evaluation.latency_ms:g} s")
        return evaluation

    return evaluate


@pytest.fixture
def study() -> optuna.Study:
    return make_study()
