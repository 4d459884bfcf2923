"""Stage 2 in turns, with objectives in closed form."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.search import turns
from smnas_optuna.search.ends import fail
from smnas_optuna.search.evolution.handover import structure_of
from smnas_optuna.search.loop import Evaluation
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.plan import Standing
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import begin_trial
from smnas_optuna.study.record import INTERRUPTED, MODULAR_PREFIX, STRUCTURAL, TrialRecord, read_records
from smnas_optuna.workers.crew import open_crew

from .stage2 import begin, by_work, plan, search, trained, without_surrogate

STUDIES = Path(__file__).parents[2] / "studies"
SMALL, LARGE = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128", "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"


def settings_of(name: str, *, surrogate: bool = False, **search: object) -> StudySettings:
    settings = load_settings(STUDIES / name)
    settings = settings.model_copy(update={"search": settings.search.model_copy(update=search)})
    return settings if surrogate else without_surrogate(settings)


@pytest.fixture
def shapes() -> StudySettings:
    """The embedded study: 2 parents and 16 trainings; without the surrogate, which takes most of the time."""
    return settings_of("shapes")


@pytest.mark.parametrize(
    "name",
    [
        *("bccd_thin", "bccd_small", "deeppcb_thin", "shapes"),
        pytest.param("bccd", marks=pytest.mark.nightly),
        pytest.param("deeppcb", marks=pytest.mark.nightly),
    ],
)
def test_at_least_half_of_the_trainings_are_bred_from_a_front(tmp_path: Path, name: str) -> None:
    settings = settings_of(name)
    folder = begin(tmp_path / "study", settings)

    outcome = search(folder, settings)

    records = [record for each in trained(folder).values() for record in each]
    assert outcome.trained == len(records) == settings.modular.trials
    assert 2 * sum((record.attrs.get("origin") == "child") for record in records) >= len(records)
    assert 2 * sum((record.generation or 0) > 0 for record in records) >= len(records)
    for each in trained(folder).values():
        first = [record for record in each if record.generation == 0]
        assert len(first) == max(1, settings.modular.trials // settings.modular.parents // 4)
        assert not any(record.attrs.get("origin") == "child" for record in first), (
            "they are blind mutations of the parent"
        )


@pytest.mark.parametrize(
    ("name", "surrogate"),
    [
        pytest.param("coco", False, marks=pytest.mark.nightly),  # 1,800 trainings
        pytest.param("shapes", True, marks=pytest.mark.slow),
        pytest.param("bccd_small", True, marks=pytest.mark.nightly),
    ],
)
def test_at_least_half_are_bred_in_the_large_study_and_with_the_surrogate(
    tmp_path: Path, name: str, surrogate: bool
) -> None:
    settings = settings_of(name, surrogate=surrogate)
    folder = begin(tmp_path / "study", settings, trials=50 if name == "coco" else None)

    search(folder, settings)

    records = [record for each in trained(folder).values() for record in each]
    assert len(records) == settings.modular.trials
    assert 2 * sum((record.attrs.get("origin") == "child") for record in records) >= len(records)


def hopeless_if_small(spec: DetectorSpec, trial: optuna.Trial | None = None) -> Evaluation:
    """At 64x48 no detector gets beyond AP 0.07, whatever its blocks are."""
    found = by_work(spec, trial)
    return replace(found, ap=min(found.ap, 0.07)) if spec.input_size.long == 64 else found


def test_the_budget_goes_where_something_is_to_be_won(tmp_path: Path) -> None:
    settings = settings_of("shapes", surrogate=True)
    folder = begin(tmp_path / "study", settings, evaluate=hopeless_if_small)

    search(folder, settings, evaluate=hopeless_if_small, parents=(SMALL, LARGE))

    shares = {parent: len(records) for parent, records in trained(folder).items()}
    assert sum(shares.values()) == 16
    assert 2 <= shares[SMALL] <= 6, "its first generation, and at most one more"


def test_without_the_surrogate_the_shares_are_equal(tmp_path: Path, shapes: StudySettings) -> None:
    folder = begin(tmp_path / "study", shapes, evaluate=hopeless_if_small)

    search(folder, shapes, evaluate=hopeless_if_small, parents=(SMALL, LARGE), trials=15)

    assert {parent: len(records) for parent, records in trained(folder).items()} == {SMALL: 8, LARGE: 7}


def test_parents_are_where_most_is_to_be_won(tmp_path: Path) -> None:
    """Of three bands of latency, one has only detectors that are fast and hopeless."""
    settings = settings_of("shapes", surrogate=True, seed=3)
    folder = begin(tmp_path / "study", settings, evaluate=hopeless_if_small)

    def hopeless(settings: StudySettings) -> list[bool]:
        parents = [decode(found.name.removeprefix(MODULAR_PREFIX)) for found in plan(folder, settings, num_parents=3)]
        assert len({structure_of(encode(parent)) for parent in parents}) == 3
        return [parent.input_size.long == 64 for parent in parents]

    assert not any(hopeless(settings))
    assert any(hopeless(without_surrogate(settings)))


def test_a_known_parent_is_not_trained_again_and_breeds(tmp_path: Path, shapes: StudySettings) -> None:
    folder = begin(tmp_path / "study", shapes)

    search(folder, shapes, parents=(SMALL,), trials=4)

    (records,) = trained(folder).values()
    assert SMALL not in {record.arch for record in records}
    assert [(record.attrs.get("origin") == "child") for record in records[:1]] == [False]
    assert [record.generation for record in records] == [0, 1, 1, 1]


class Worker(threading.Thread):
    """A worker with connections of its own."""

    def __init__(self, path: Path, settings: StudySettings, number: int) -> None:
        super().__init__()
        self._path, self._settings, self._number = path, settings, number
        self._random = random.Random(number)
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            search(
                StudyFolder(self._path),
                self._settings,
                evaluate=self._evaluate,
                worker=self._number,
                parents=(SMALL, LARGE),
            )
        except BaseException as fault:  # noqa: BLE001
            self.fault = fault

    def _evaluate(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        time.sleep(0.1 * self._random.random())
        if self._random.random() < 0.1:
            raise optuna.TrialPruned("by chance")
        return by_work(spec, trial)


def test_several_workers_spend_the_budget_to_the_training(tmp_path: Path, shapes: StudySettings) -> None:
    folder = begin(tmp_path / "study", shapes)
    for parent in (SMALL, LARGE):
        folder.create(f"{MODULAR_PREFIX}{parent}", optuna.samplers.NSGAIISampler())
    workers = [Worker(folder.path, shapes, number) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.fault for worker in workers] == [None] * 4
    found = trained(folder)
    assert sum(map(len, found.values())) == 16
    assert len({record.worker for records in found.values() for record in records}) > 4, "each turn has a name"


def test_no_training_is_too_many_while_another_study_trains(tmp_path: Path, shapes: StudySettings) -> None:
    """The other worker begins in the middle of a training, and finds all but that one done."""
    folder = begin(tmp_path / "study", shapes)
    outcomes: list[Outcome] = []
    begun: list[str] = []

    def meanwhile(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if not begun:
            begun.append(encode(spec))
            outcomes.append(search(StudyFolder(folder.path), shapes, worker=1, trials=7, parents=(SMALL, LARGE)))
        return by_work(spec, trial)

    search(folder, shapes, evaluate=meanwhile, trials=7, parents=(SMALL, LARGE))

    assert sum(map(len, trained(folder).values())) == 7
    assert outcomes[0].waits_for_others
    assert outcomes[0].reason == "other workers have the rest of the work: 1 being trained"


def test_what_a_dead_worker_had_claimed_beside_is_trained_by_others(tmp_path: Path, shapes: StudySettings) -> None:
    folder = begin(tmp_path / "study", shapes)
    search(folder, shapes, parents=(SMALL, LARGE), trials=4)
    small = folder.load(f"{MODULAR_PREFIX}{SMALL}")
    dead, dead_too = open_crew(small, folder), open_crew(small, folder)
    assert dead.claim("64x48.basicblock-w8-1-21-21-12.fpn-p2-p5-c32.rpn.fc-w128"), "and it died before it began"
    begin_trial(small, dead_too.me)

    search(StudyFolder(folder.path), shapes, parents=(LARGE,), trials=8)

    found = {parent: len(records) for parent, records in trained(folder).items()}
    assert sum(found.values()) == 8
    assert dead.claims() == {}


@pytest.mark.parametrize("arch", [None, LARGE], ids=["before its architecture was known", "and trained elsewhere"])
def test_a_trial_that_was_interrupted_and_does_not_go_on_takes_no_turns(
    tmp_path: Path, shapes: StudySettings, arch: str | None
) -> None:
    folder = begin(tmp_path / "study", shapes)
    search(folder, shapes, parents=(SMALL, LARGE), trials=2)
    study = folder.load(f"{MODULAR_PREFIX}{SMALL}")
    trial = begin_trial(study, "w0")
    if arch is not None:  # as LARGE is known from stage 1
        store_attrs(trial, {"arch": arch})
    fail(study, trial, INTERRUPTED)

    search(StudyFolder(folder.path), shapes, parents=(SMALL, LARGE), trials=16)

    assert {parent: len(records) for parent, records in trained(folder).items()} == {SMALL: 8, LARGE: 8}


def test_an_interrupted_training_goes_on_first(tmp_path: Path, shapes: StudySettings) -> None:
    folder, count = begin(tmp_path / "study", shapes), [0]

    def stops(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        count[0] += 1
        if count[0] == 6:
            raise KeyboardInterrupt
        return by_work(spec, trial)

    with pytest.raises(KeyboardInterrupt):
        search(folder, shapes, evaluate=stops, parents=(SMALL, LARGE))
    (interrupted,) = [record for record in folder.records() if record.reason == INTERRUPTED]

    begun: list[str] = []

    def notes(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        begun.append(encode(spec))
        return by_work(spec, trial)

    search(StudyFolder(folder.path), shapes, evaluate=notes, parents=(SMALL, LARGE))
    assert begun[0] == interrupted.arch
    assert sum(map(len, trained(folder).values())) == 16


class Progresses(Listener):
    def __init__(self) -> None:
        self.counts: list[tuple[int, int]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        self.counts.append((done, budget))


def test_progress_counts_all_studies(tmp_path: Path, shapes: StudySettings) -> None:
    folder, listener = begin(tmp_path / "study", shapes), Progresses()

    search(folder, shapes, listener=listener, parents=(SMALL, LARGE), trials=9)

    assert listener.counts == [(done, 9) for done in range(1, 10)]
    assert listener.notes[0] == f"around {SMALL}: 1 more, 1 architectures in all"


def test_the_same_command_adds_nothing_and_a_larger_budget_goes_on(tmp_path: Path, shapes: StudySettings) -> None:
    folder = begin(tmp_path / "study", shapes)
    assert search(folder, shapes, trials=3, parents=(SMALL,)).trained == 3
    assert search(folder, shapes, trials=3, parents=(LARGE,)).trained == 3
    assert search(folder, shapes, trials=5, parents=(LARGE,)).trained == 5

    found = {parent: len(records) for parent, records in trained(folder).items()}
    assert found == {SMALL: 3, LARGE: 2}, "a parent that is not searched now keeps what it has, and counts"
    assert len(read_records(folder.load(STRUCTURAL))) == shapes.search.trials


def test_one_structure_is_no_structures() -> None:
    one = Standing(trained=3, first=1, population=1)

    assert turns._ended([one], None, 3).reason == "budget reached: 3 of 3 architectures are trained, around 1 structure"
    assert turns._ended([one, one], None, 6).reason.endswith("are trained, around 2 structures")
