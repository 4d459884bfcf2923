"""Each fails if the part of Optuna that it is about is gone, or has another meaning."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.samplers import NSGAIISampler, RandomSampler
from optuna.trial import TrialState

from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import (
    OUTSIDE,
    add_system_attrs,
    asked_params,
    begin_trial,
    begin_waiting_trial,
    engine_of,
    leave_population,
    nsgaii_selection,
    put_back,
    storage_of,
    store_attr_of_stored,
    study_id,
    trial_id,
    waiting_trials,
    with_keys_of_nsgaii,
)
from smnas_optuna.study.record import STRUCTURAL


@pytest.fixture
def in_folder(tmp_path: Path) -> optuna.Study:
    return StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler())


def in_memory(population: int = 2) -> optuna.Study:
    sampler = NSGAIISampler(population_size=population, seed=0)
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)


def test_the_storage_of_a_study_has_its_trials(in_folder: optuna.Study) -> None:
    for study in (in_folder, in_memory()):
        study.ask()

        again = optuna.load_study(study_name=study.study_name, storage=storage_of(study))

        assert [trial.number for trial in again.trials] == [0]


def test_the_engine_of_a_study_is_that_of_its_database(in_folder: optuna.Study, tmp_path: Path) -> None:
    in_folder.ask()
    engine = engine_of(in_folder)

    assert engine.url.database == (tmp_path / "study.db").as_uri()
    with engine.begin() as connection:
        assert connection.execute(sqlalchemy.text("SELECT COUNT(*) FROM trials")).scalar_one() == 1
        connection.execute(sqlalchemy.text("CREATE TABLE beside (number INTEGER)"))
    again = StudyFolder(tmp_path).load(STRUCTURAL)
    assert "beside" in sqlalchemy.inspect(engine_of(again)).get_table_names()


def test_studies_have_the_numbers_of_their_rows_later_ones_higher_ones(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    studies = [folder.create(name, RandomSampler()) for name in ("z", "a", "m")]

    with engine_of(studies[0]).connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT study_name, study_id FROM studies")).all()
    assert {study.study_name: study_id(study) for study in studies} == {str(row[0]): int(row[1]) for row in rows}
    assert [study_id(study) for study in studies] == sorted(study_id(study) for study in studies)
    frozen = storage_of(studies[0]).get_all_studies()
    assert {each.study_name: study_id(each) for each in frozen} == {each.study_name: study_id(each) for each in studies}


def test_trials_have_the_numbers_of_their_rows(in_folder: optuna.Study) -> None:
    in_folder.ask()
    in_folder.ask()

    with engine_of(in_folder).connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT number, trial_id FROM trials")).all()
    assert {trial.number: trial_id(trial) for trial in in_folder.trials} == {int(row[0]): int(row[1]) for row in rows}


def test_attributes_of_a_trial_in_memory_are_not_stored_and_shared_with_no_copy(in_folder: optuna.Study) -> None:
    in_folder.ask()
    (trial,) = in_folder.trials
    copied = copy.copy(trial)
    add_system_attrs(copied, {"artifacts:1": "{}"})

    assert copied.system_attrs["artifacts:1"] == "{}"
    assert "artifacts:1" not in trial.system_attrs
    assert "artifacts:1" not in in_folder.trials[0].system_attrs


def test_a_trial_that_is_begun_has_its_worker_and_parameters_from_the_first_moment(
    in_folder: optuna.Study, tmp_path: Path
) -> None:
    trial = begin_trial(in_folder, "me", {"x": "b"})

    (stored,) = StudyFolder(tmp_path).load(STRUCTURAL).get_trials()  # as another process sees it
    assert (stored.number, stored.state, stored.user_attrs) == (0, TrialState.RUNNING, {"worker": "me"})
    assert stored.datetime_start is not None
    assert trial.suggest_categorical("x", ["a", "b"]) == "b"
    assert trial.suggest_categorical("y", ["only"]) == "only", "what is not fixed is sampled"
    in_folder.tell(trial, [1.0, 0.5])
    assert in_folder.trials[0].values == [1.0, 0.5]


def test_a_trial_without_parameters_is_sampled_and_makes_a_new_one_each_time() -> None:
    study = in_memory()

    trials = [begin_trial(study, "me") for _ in range(2)]

    assert [trial.number for trial in trials] == [0, 1]
    assert {trial.suggest_categorical("x", ["a", "b"]) for trial in trials} <= {"a", "b"}


def test_a_sampler_sees_the_trials_of_others_that_were_begun_since_its_last_one() -> None:
    study, seen = in_memory(), list[int]()
    colleague = optuna.load_study(study_name=study.study_name, storage=storage_of(study))

    class Counting(RandomSampler):
        def sample_independent(self, study: optuna.Study, *arguments: Any) -> Any:
            seen.append(len(study._get_trials(deepcopy=False, use_cache=True)))  # as Optuna's own samplers do
            return super().sample_independent(study, *arguments)

    study.sampler = Counting()
    for _ in range(3):
        begin_trial(study, "me").suggest_categorical("x", [0, 1])
        begin_trial(colleague, "a colleague")

    assert seen == [1, 3, 5]


@pytest.mark.parametrize(("leaves", "generation"), [(False, 1), (True, 0)])
def test_a_trial_that_leaves_the_population_fills_no_place_in_it(leaves: bool, generation: int) -> None:
    study = in_memory(population=2)
    sampler = study.sampler
    assert isinstance(sampler, NSGAIISampler)
    for place in range(2):
        trial = begin_trial(study, "me", {"x": 0})
        trial.suggest_categorical("x", [0, 1])
        sampler.get_trial_generation(study, study.trials[place])
        if leaves and place == 1:
            leave_population(trial)
        study.tell(trial, [1.0 + place, 0.5 + place])

    members = [each.number for each in sampler.get_population(study, 0)]
    begin_trial(study, "me")
    assert members == ([0] if leaves else [0, 1])
    assert sampler.get_trial_generation(study, study.trials[2]) == generation
    if leaves:
        assert sampler.get_trial_generation(study, study.trials[1]) == OUTSIDE


def test_an_attribute_is_stored_with_the_trial_of_another_process(in_folder: optuna.Study, tmp_path: Path) -> None:
    begin_trial(in_folder, "me")
    elsewhere = StudyFolder(tmp_path).load(STRUCTURAL)

    store_attr_of_stored(elsewhere, elsewhere.trials[0], "reason", "interrupted")

    assert in_folder.trials[0].user_attrs == {"worker": "me", "reason": "interrupted"}


def test_a_subclass_of_nsga2_has_the_generations_that_optunas_class_has_stored() -> None:
    @with_keys_of_nsgaii
    class Mine(NSGAIISampler):
        pass

    study = in_memory(population=2)
    for value in range(3):
        trial = study.ask()
        NSGAIISampler(population_size=2).get_trial_generation(study, study.trials[trial.number])
        study.tell(trial, [value, value])
    stored = {trial.number: trial.system_attrs for trial in study.trials}
    study.sampler = Mine(population_size=2)

    assert [len(study.sampler.get_population(study, generation)) for generation in (0, 1)] == [2, 1]
    trial = study.ask()
    assert study.sampler.get_trial_generation(study, study.trials[trial.number]) == 1
    study.tell(trial, [9, 9])
    assert study.trials[trial.number].system_attrs.keys() == stored[2].keys()
    assert len(NSGAIISampler(population_size=2).get_population(study, 1)) == 2


def test_the_selection_of_nsgaii_is_by_rank_and_then_by_crowding_distance() -> None:
    study = in_memory()
    points = [(1.0, 0.1), (2.0, 0.5), (2.1, 0.51), (4.0, 0.9), (4.0, 0.4), (5.0, 0.3)]
    study.add_trials([optuna.trial.create_trial(values=point) for point in points])

    def selected(count: int) -> set[int]:
        return {trial.number for trial in nsgaii_selection(count)(study, study.trials)}

    assert selected(2) == {0, 3}, "both ends"
    assert selected(4) == {0, 1, 2, 3}, "the front"
    assert selected(5) == {0, 1, 2, 3, 4}, "the second front dominates the third"
    assert selected(9) == set(range(6))


def test_a_sampler_of_another_name_goes_on_with_the_generations_of_nsgaii() -> None:
    class Renamed(NSGAIISampler):
        pass

    def generations(sampler: NSGAIISampler) -> list[int | None]:
        study = in_memory(population=2)
        for place in range(5):
            if place == 2:
                study.sampler = sampler
            trial = begin_trial(study, "me")
            trial.suggest_categorical("x", range(9))
            study.tell(trial, [1.0 + place, 0.5 + place])
        return [trial.system_attrs.get("NSGAIISampler:generation") for trial in study.trials]

    assert generations(with_keys_of_nsgaii(Renamed)(population_size=2, seed=0)) == [0, 0, 1, 1, 2]

    class Foreign(NSGAIISampler):
        pass

    assert generations(Foreign(population_size=2, seed=0)) == [0, 0, None, None, None]


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "sqlite"])
def test_an_enqueued_trial_waits_runs_and_waits_again(tmp_path: Path, stored: bool) -> None:
    study = StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler()) if stored else in_memory()
    for value in ("a", "b"):
        study.enqueue_trial({"x": value})
    assert [trial.number for trial in waiting_trials(study)] == [0, 1]

    for times in range(2):
        waiting, _ = waiting_trials(study)
        assert asked_params(waiting) == {"x": "a", **({"y": waiting.params.get("y")} if times else {})}
        trial = begin_waiting_trial(study, waiting, {"worker": "me"})
        assert trial is not None
        (state, attrs) = study.trials[0].state, study.trials[0].user_attrs
        assert (state, attrs) == (TrialState.RUNNING, {"worker": "me"})
        assert [each.number for each in waiting_trials(study)] == [1]
        chosen = trial.suggest_categorical("y", [0, 1, 2, 3])
        assert trial.suggest_categorical("x", ["a", "b"]) == "a"
        assert chosen == study.trials[0].params["y"]
        put_back(study, 0)
        assert begin_waiting_trial(study, study.trials[1], {}) is not None
        put_back(study, 1)

    study.tell(begin_waiting_trial(study, study.trials[0], {}) or 0, [1.0, 0.5])
    put_back(study, 0)
    assert study.trials[0].state == TrialState.COMPLETE, "what has ended stays so"
