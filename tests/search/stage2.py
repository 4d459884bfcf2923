"""Stage 2 without training: studies in a folder, and objectives in closed form."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import StudySettings
from smnas_optuna.search.evolution.sampler import build_ranking
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.plan import StudyPlan, plan_stage
from smnas_optuna.search.request import Request
from smnas_optuna.search.turns import Turns
from smnas_optuna.search_space import StructuralSearchSpace, baselines_of
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, TrialRecord, read_records, stage_name
from smnas_optuna.workers.interrupt import StopRequest

Evaluate = Callable[[DetectorSpec, optuna.Trial], Evaluation]


def by_work(spec: DetectorSpec, trial: optuna.Trial | None = None) -> Evaluation:
    """Latency grows with the work, and AP saturates; a part of AP is chance that the architecture names."""
    work = WorkCounter()(spec)
    chance = int(hashlib.sha256(encode(spec).encode()).hexdigest()[:8], 16) / 2**32 - 0.5
    size = math.log2(spec.input_size.long * spec.input_size.short)
    pixels = 1 / (1 + math.exp(-(size - 13) / 2))
    ap = 0.6 * pixels * (1 - math.exp(-((work.multiply_adds / 2**size / 4000) ** 0.4))) + 0.01 * chance
    latency = 2 + work.multiply_adds**0.7 / 1e4
    return Evaluation(latency_ms=latency, ap=max(0.0, ap), attrs={"num_params": work.num_params})


class Fake:
    """An evaluator in closed form."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    def __call__(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        trial.set_user_attr("epochs_done", 1)
        return self._evaluate(spec, trial)

    def tidy(self, records: list[TrialRecord]) -> None:
        """Nothing lies around."""


def begin(
    path: Path, settings: StudySettings, *, trials: int | None = None, evaluate: Evaluate = by_work
) -> StudyFolder:
    """A study folder whose stage 1 has trained its baselines and random architectures, ``trials`` in all."""
    folder = StudyFolder(path)
    path.mkdir(exist_ok=True)
    study = folder.create(STRUCTURAL, optuna.samplers.RandomSampler())
    space, random = StructuralSearchSpace(settings.space.structural), np.random.default_rng(settings.search.seed)
    specs = dict.fromkeys(baselines_of(settings))
    while len(specs) < (trials or settings.search.trials):
        specs[space.express(space.draw(random))] = None
    distributions = {name: CategoricalDistribution(each) for name, each in space.choices.items()}
    for spec in specs:
        found = evaluate(spec, None)  # type: ignore[arg-type]
        study.add_trial(
            create_trial(
                values=(found.latency_ms, found.ap),
                params=dict(space.genome(spec)),
                distributions=dict(distributions),
                user_attrs={"arch": encode(spec), **found.attrs},
            )
        )
    return folder


def session_of(folder: StudyFolder, settings: StudySettings) -> Session:
    """What planning needs of a session."""
    return cast("Session", SimpleNamespace(folder=folder, settings=settings))


def plan(folder: StudyFolder, settings: StudySettings, **request: Any) -> list[StudyPlan]:
    ranking = build_ranking(settings.search, Limits(), count=WorkCounter())
    asked = Request(study_dir=folder.path, stage="modular", **request)
    return plan_stage(session_of(folder, settings), asked, ranking=ranking)


def search(
    folder: StudyFolder,
    settings: StudySettings,
    *,
    evaluate: Evaluate = by_work,
    worker: int = 0,
    trials: int | None = None,
    listener: Listener | None = None,
    **request: Any,
) -> Outcome:
    """Search stage 2 as one worker."""
    plans = plan(folder, settings, trials=trials, **request)
    studies = [folder.create(each.name, optuna.samplers.NSGAIISampler()) for each in plans]
    turns = Turns(
        folder,
        settings,
        limits=Limits(),
        worker=worker,
        listener=listener or Listener(),
        stop=StopRequest(),
        count=WorkCounter(),
        evaluator=lambda *_: Fake(evaluate),
    )
    return turns.search_all(plans, studies, trials or settings.modular.trials)


def without_surrogate(settings: StudySettings) -> StudySettings:
    return settings.model_copy(update={"search": settings.search.model_copy(update={"surrogate": False})})


def trained(folder: StudyFolder) -> dict[str, list[TrialRecord]]:
    """The trained trials of each parent's study."""
    return {
        stage_name(study).removeprefix(MODULAR_PREFIX): [each for each in read_records(study) if each.trained]
        for study in folder.modular
    }
