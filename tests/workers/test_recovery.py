from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from sqlalchemy import Engine, create_engine

from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.optuna_private import begin_trial
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, read_records
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.recovery import KILLS_WITHOUT_PROGRESS, owners, recover_dead_trials

from ..search.conftest import BASELINES

ARCH, OTHER = BASELINES


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["minimize", "maximize"])


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


class Scene:
    """A study, and a worker that looks after what others have left in it."""

    def __init__(self, study: optuna.Study, folder: Path, engine: Engine) -> None:
        self.study, self.folder, self.engine = study, folder, engine
        self.crew = Crew(folder, engine, 0)

    def begin(self, arch: str | None = ARCH, *, dies: bool = True, before: int = 0, done: int = 0) -> Crew:
        """Another worker with a claim and a running trial; if it ``dies``, its lock stays and nobody holds it."""
        worker = Crew(self.folder, self.engine, 0)
        trial = begin_trial(self.study, worker.me)
        if arch is not None:
            assert worker.claim(arch)
            store_attrs(trial, {"arch": arch, "epochs_before": before, "epochs_done": done})
        if dies:
            (self.folder / f"{worker.me}.lock").touch()
        return worker

    def recover(self) -> list[str]:
        notes: list[str] = []
        recover_dead_trials(self.study, self.crew, notes.append)
        return notes


@pytest.fixture
def scene(study: optuna.Study, tmp_path: Path, engine: Engine) -> Scene:
    return Scene(study, tmp_path, engine)


def test_what_a_dead_worker_left_is_recovered_once(scene: Scene) -> None:
    dead = scene.begin()
    assert owners(read_records(scene.study), scene.crew) == {dead.me}

    assert scene.recover() == [f"trial 0 ({ARCH}): its process died; interrupted"]

    (record,) = read_records(scene.study)
    assert (record.state, record.reason, record.killed) == ("failed", INTERRUPTED, True)
    assert scene.crew.claims() == {}
    assert list(scene.folder.iterdir()) == []
    assert owners(read_records(scene.study), scene.crew) == set()
    assert scene.recover() == []


def test_what_a_living_worker_has_and_ones_own_trial_are_left_alone(scene: Scene) -> None:
    other = scene.begin(dies=False)
    begin_trial(scene.study, scene.crew.me)

    with other.registered():
        assert scene.recover() == []

    assert [record.state for record in read_records(scene.study)] == ["running", "running"]
    assert scene.crew.claims() == {ARCH: other.me}


def test_what_another_worker_looks_after_is_left_to_it(scene: Scene) -> None:
    dead, colleague = scene.begin(), Crew(scene.folder, scene.engine, 0)

    with colleague.clean_up_after(dead.me) as death:
        assert death == "died"
        assert scene.recover() == []

    assert read_records(scene.study)[0].state == "running"


def test_an_end_that_could_not_be_stored_is_no_death(scene: Scene) -> None:
    scene.begin(dies=False)

    assert scene.recover() == [f"trial 0 ({ARCH}): its end could not be stored; interrupted"]

    (record,) = read_records(scene.study)
    assert (record.state, record.reason, record.killed) == ("failed", INTERRUPTED, False)


def test_a_trial_without_an_architecture_or_a_worker_is_recovered_too(scene: Scene) -> None:
    scene.begin(None)
    scene.study.ask()

    notes = scene.recover()

    assert notes == [
        "trial 1 (no architecture yet): its end could not be stored; interrupted",
        "trial 0 (no architecture yet): its process died; interrupted",
    ]
    assert {record.state for record in read_records(scene.study)} == {"failed"}


def test_a_claim_without_a_trial_is_released(scene: Scene) -> None:
    dead = Crew(scene.folder, scene.engine, 0)
    assert dead.claim(OTHER)
    (scene.folder / f"{dead.me}.lock").touch()

    assert scene.recover() == []

    assert scene.crew.claims() == {}
    assert scene.crew.claim(OTHER)


@pytest.mark.parametrize(
    ("attempts", "reasons"),
    [
        ([(0, 0), (0, 0)], [INTERRUPTED, KILLED_TWICE]),
        ([(0, 0), (0, 1), (1, 1)], [INTERRUPTED, INTERRUPTED, KILLED_TWICE]),
        ([(0, 1), (1, 2), (2, 3)], [INTERRUPTED] * 3),
    ],
    ids=["in vain", "one of them not in vain", "each a little further"],
)
def test_an_architecture_is_given_up_at_the_second_death_in_vain(
    scene: Scene, attempts: list[tuple[int, int]], reasons: list[str]
) -> None:
    assert KILLS_WITHOUT_PROGRESS == 2
    for before, done in attempts:
        scene.begin(before=before, done=done)
        scene.recover()

    assert [record.reason for record in read_records(scene.study)] == reasons


def test_deaths_of_another_architecture_and_other_ends_do_not_count(scene: Scene) -> None:
    for arch, dies in ((ARCH, True), (OTHER, True), (ARCH, False)):
        scene.begin(arch, dies=dies)
        scene.recover()

    assert {record.reason for record in read_records(scene.study)} == {INTERRUPTED}
