"""What Optuna itself shows of our studies: its front is ours, for the limits in force."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState, create_trial

from smnas_optuna.study.attributes import LIMITS, REFERENCE_MS, RETIMED
from smnas_optuna.study.constraints import REPEAT, follow_limits
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import replace_constraints
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import STRUCTURAL, read_records

ARCHS = [f"64x48.resnet18-w{width}.fpn-p2-p5-c32.none.retina" for width in (4, 8, 12, 16, 24)]
POINTS = [(1.0, 0.1), (2.0, 0.3), (3.0, 0.2), (4.0, 0.5), (8.0, 0.9)]
"""(latency, AP): the third is dominated."""
NUM_PARAMS = (100, 900, 300, 400, 500)


def add(study: optuna.Study, place: int, constraints: Mapping[str, float] | None = None, **attrs: Any) -> None:
    attrs = {"arch": ARCHS[place], "num_params": NUM_PARAMS[place], **attrs}
    trial = create_trial(values=POINTS[place], user_attrs=attrs, constraints=dict(constraints or {}))
    study.add_trial(trial)


def keep_to(study: optuna.Study, limits: Limits) -> int:
    study.set_user_attr(LIMITS, limits.as_json())
    return follow_limits(study)


@pytest.fixture(params=["memory", "sqlite"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.Study:
    sampler = optuna.samplers.NSGAIISampler()
    if request.param == "memory":
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    else:
        study = StudyFolder(tmp_path).create(STRUCTURAL, sampler)
    for place in range(len(ARCHS)):
        add(study, place)
    return study


def as_optuna_loads(study: optuna.Study, tmp_path: Path) -> optuna.Study:
    """The study as somebody loads it who has only Optuna, in a process of its own."""
    if not (tmp_path / "study.db").exists():
        return study
    return optuna.load_study(study_name=STRUCTURAL, storage=f"sqlite:///{tmp_path / 'study.db'}")


def front_of(study: optuna.Study) -> list[int]:
    return sorted(trial.number for trial in study.best_trials)


@pytest.mark.parametrize(
    ("limits", "front"),
    [
        (Limits(), [0, 1, 3, 4]),
        (Limits(max_latency_ms=4.0), [0, 1, 3]),
        (Limits(max_params=500), [0, 2, 3, 4]),
        (Limits(max_latency_ms=3.5, max_params=450), [0, 2]),
        (Limits(max_params=1), []),
    ],
    ids=["none", "latency", "parameters", "both", "nothing keeps it"],
)
def test_optunas_front_is_ours_whatever_limits_held_before(
    study: optuna.Study, tmp_path: Path, limits: Limits, front: list[int]
) -> None:
    keep_to(study, Limits(max_latency_ms=2.5, max_params=1000))
    assert front_of(study) == [0, 1]

    keep_to(study, limits)

    for seen in (study, as_optuna_loads(study, tmp_path)):
        assert front_of(seen) == front == [record.number for record in pareto_front(read_records(seen))]
        for trial, (latency_ms, _), num_params in zip(seen.trials, POINTS, NUM_PARAMS, strict=True):
            assert trial.constraints == limits.excesses(latency_ms=latency_ms, num_params=num_params)


def test_the_picture_of_the_front_shows_ours(study: optuna.Study, tmp_path: Path) -> None:
    keep_to(study, Limits(max_latency_ms=4.0))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        axes = optuna.visualization.matplotlib.plot_pareto_front(as_optuna_loads(study, tmp_path))

    shown = {str(points.get_label()): np.asarray(points.get_offsets()).tolist() for points in axes.collections}
    assert sorted(shown["Best Trial"]) == [list(POINTS[place]) for place in (0, 1, 3)]
    axes.figure.clear()


def test_nothing_is_written_if_nothing_changes(study: optuna.Study) -> None:
    assert keep_to(study, Limits(max_latency_ms=4.0)) == len(ARCHS)
    assert keep_to(study, Limits(max_latency_ms=4.0)) == 0
    assert keep_to(study, Limits()) == len(ARCHS)
    assert keep_to(study, Limits()) == 0


def test_complete_repeats_of_earlier_versions_are_shown_by_optuna_no_more(study: optuna.Study, tmp_path: Path) -> None:
    add(study, 4, cached_from=4)
    assert front_of(study) == [0, 1, 3, 4, 5]

    keep_to(study, Limits())

    assert front_of(as_optuna_loads(study, tmp_path)) == [0, 1, 3, 4]
    assert study.trials[5].constraints == {REPEAT: 1.0}
    record = read_records(study)[5]
    assert (record.state, record.cached_from, record.ap) == ("complete", 4, 0.9)


def test_what_another_program_stored_is_not_changed(study: optuna.Study) -> None:
    add(study, 4, {"theirs": 1.0}, arch="nonsense")
    running = study.ask()

    keep_to(study, Limits(max_latency_ms=4.0))

    assert study.trials[5].constraints == {"theirs": 1.0}
    assert study.trials[running.number].constraints == {}


def test_it_follows_a_latency_that_was_measured_again(study: optuna.Study) -> None:
    study.set_user_attr(REFERENCE_MS, 1.0)
    keep_to(study, Limits(max_latency_ms=4.0))
    study.set_user_attr(RETIMED, {ARCHS[4]: {"stored_ms": 3.5, "run": "x"}})

    assert follow_limits(study) == 1

    assert study.trials[4].constraints == {"max_latency_ms": pytest.approx(3.5 / 4 - 1)}
    assert front_of(study) == [0, 1, 3, 4]


def test_only_constraints_change_and_of_those_trials_alone(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path).create(STRUCTURAL, optuna.samplers.NSGAIISampler())
    for _ in range(2):
        trial = study.ask()
        trial.suggest_categorical("x", [0, 1])
        trial.set_constraint("a", 1.0)
        study.tell(trial, [1.0, 0.5])
    before = study.get_trials()

    replace_constraints(study, {1: {"b": -0.5, "c": 2.0}})

    (first, second) = as_optuna_loads(study, tmp_path).trials
    assert first == before[0]
    assert second.constraints == {"b": -0.5, "c": 2.0}
    kept = {name for name in before[1].system_attrs if not name.startswith("constraints")}
    assert {name for name in second.system_attrs if not name.startswith("constraints")} == kept
    assert (second.values, second.params, second.state) == ([1.0, 0.5], before[1].params, TrialState.COMPLETE)
    assert study.trials[1].constraints == second.constraints, "this process has cached it"


def test_what_another_worker_has_just_written_stands(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path).create(STRUCTURAL, optuna.samplers.NSGAIISampler())
    add(study, 0)
    with sqlite3.connect(tmp_path / "study.db") as database:  # between the look at the trial and the change
        database.execute("CREATE TRIGGER other AFTER DELETE ON trial_system_attributes BEGIN SELECT RAISE(IGNORE); END")
        database.execute("INSERT INTO trial_system_attributes VALUES (NULL, 1, 'constraints:a', '7.0')")
        database.execute("CREATE TRIGGER kept BEFORE DELETE ON trial_system_attributes BEGIN SELECT RAISE(IGNORE); END")

    replace_constraints(study, {0: {"a": 7.0}})

    assert as_optuna_loads(study, tmp_path).trials[0].constraints == {"a": 7.0}


def test_an_imprecise_latency_is_its_estimate_for_optuna_and_its_upper_end_for_us(study: optuna.Study) -> None:
    """What docs/search.md says about the fronts of both."""
    attrs = {"arch": ARCHS[0], "latency": {"ratio_low": 0.5, "ratio": 1.5, "ratio_high": 4.5}}
    study.add_trial(create_trial(values=(1.5, 0.4), user_attrs=attrs))

    assert follow_limits(study) == 0

    assert front_of(study) == [0, 3, 4, 5], "it hides the second"
    assert [record.number for record in pareto_front(read_records(study))] == [0, 1, 3, 4], "it is no faster than 4.5"
