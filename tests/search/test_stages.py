"""Stage 2 from end to end, in this process, after a stage 1 that is run once."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import NSGAIISampler, RandomSampler

from smnas_optuna.arch import canonical, decode, encode
from smnas_optuna.config import load_settings
from smnas_optuna.errors import StudyError
from smnas_optuna.report.summary import summarize
from smnas_optuna.search import turns
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.pruning.partial_order import find_witnesses
from smnas_optuna.search.request import Request
from smnas_optuna.search.retime import retime_fronts
from smnas_optuna.search.stages import describe_search, run_search
from smnas_optuna.search_space import ModularSearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import FINGERPRINT, REFERENCE_MS, RETIMED
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, Pruned, TrialRecord, read_records, stage_name
from smnas_optuna.workers.interrupt import StopRequest

from ..conftest import TINY_STUDY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]
OTHER, DEEP = "32x32.resnet18-w4.c4.rpn.fc", "32x32.resnet18-w8.fpn-p2-p5-c8.rpn.cascade2-w16"


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.budgets: list[tuple[int, int]] = []
        self.phases: set[str] = set()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        self.budgets.append((done, budget))

    def step(self, phase: str, done: int, total: int) -> None:
        self.phases.add(phase)


def search(
    folder: Path,
    *,
    trials: int | None = None,
    num_parents: int | None = None,
    parents: tuple[str, ...] = (),
    pruning: bool = True,
    listener: Listener | None = None,
) -> Outcome:
    request = Request(
        study_dir=folder,
        stage="modular",
        trials=trials,
        num_parents=num_parents,
        parents=parents,
        device="cpu",
        pruning=pruning,
    )
    return run_search(request, listener=listener or Listener(), stop=StopRequest())


def change(folder: Path, *lines: tuple[str, str]) -> None:
    text = (folder / "study.toml").read_text()
    for before, after in lines:
        assert before in text
        text = text.replace(before, after)
    (folder / "study.toml").write_text(text)


def trained(folder: Path) -> dict[str, list[TrialRecord]]:
    """The trained trials of each parent's study."""
    return {
        stage_name(study).removeprefix(MODULAR_PREFIX): [record for record in read_records(study) if record.trained]
        for study in StudyFolder(folder).modular
    }


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder whose stage 1 is over."""
    folder = tmp_path_factory.mktemp("begun") / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(TINY_STUDY)
    run_search(Request(study_dir=folder, trials=4, device="cpu"), listener=Listener(), stop=StopRequest())
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "study"))


def test_it_needs_a_structural_study_first(study_dir: Path) -> None:
    with pytest.raises(StudyError) as caught:
        search(study_dir)

    assert caught.value.message == (
        f"{study_dir}: there is no structure yet whose modules could be searched: there is no structural study"
    )
    assert caught.value.fix == f"search the structures first: smnas structural {study_dir} [--data DIR]"
    assert StudyFolder(study_dir).modular == []


def test_it_needs_a_trained_structure(study_dir: Path) -> None:
    change(study_dir, ("[search]\n", "[search]\nmax_params = 1\n"))
    request = Request(study_dir=study_dir, trials=1, device="cpu")
    outcome = run_search(request, listener=Listener(), stop=StopRequest())
    assert (outcome.trained, outcome.failed) == (0, False)
    count = len(read_records(StudyFolder(study_dir).load(STRUCTURAL)))

    with pytest.raises(StudyError, match=f"none of its {count} trials is trained"):
        search(study_dir)


def test_each_parent_gets_its_first_generation_and_begins_with_itself(folder: Path) -> None:
    listener = Notes()

    outcome = search(folder, trials=5, parents=(DEEP, OTHER), listener=listener)

    structural = read_records(StudyFolder(folder).load(STRUCTURAL))
    found = trained(folder)
    assert list(found) == [DEEP, OTHER]
    assert sum(map(len, found.values())) == 5
    assert min(map(len, found.values())) >= 1, "its first generation, whatever it promises"
    assert outcome == Outcome(
        reason="budget reached: 5 of 5 architectures are trained, around 2 structures", failed=False, trained=5
    )
    for parent, records in found.items():
        known = any(record.arch == parent and record.trained for record in structural)
        assert (records[0].arch != parent) == known, "itself first, unless stage 1 has trained it"
        assert not any(record.baseline for record in records)
        assert [record.generation for record in records] == [0, *(1 for _ in records[1:])], "the others are bred"
        assert all(record.gate_ratio is not None and record.study == f"modular/{parent}" for record in records)
    assert listener.budgets == [(done, 5) for done in (1, 2, 3, 4, 5)]
    assert {"load", "train", "evaluate"} <= listener.phases
    units = {study.user_attrs[REFERENCE_MS] for study in StudyFolder(folder).of_stage(None)}
    assert len(units) == 1, "stages compare only in the same unit"


def test_a_structure_that_stage_1_has_trained_is_not_trained_again(folder: Path) -> None:
    search(folder, trials=3)

    for parent, records in trained(folder).items():
        space = ModularSearchSpace(load_settings(folder).space.modular, decode(parent))
        assert encode(space.express(space.genome(decode(parent)))) == parent
        assert records
        assert parent not in {canonical(str(record.stored_arch)) for record in records}


def test_a_mobilenet_is_searched_around_itself(folder: Path) -> None:
    parent = "32x32.mobilenet_v2-w8.fpn-p2-p5-c8.none.retina"
    search(folder, trials=2, parents=(parent,))

    ((name, records),) = trained(folder).items()
    assert name == records[0].arch == parent
    assert str(records[1].arch).startswith("32x32.mobilenet_v2-w")


def test_a_study_that_an_earlier_version_began_around_a_mobilenet_is_refused(folder: Path) -> None:
    parent = "32x32.mobilenet_v2-w8.fpn-p2-p5-c8.none.retina"
    study = StudyFolder(folder).create(f"modular/{parent}", RandomSampler())
    study.set_user_attr("fingerprint", {"space": load_settings(folder).space.modular.model_dump(mode="json")})

    with pytest.raises(StudyError) as caught:
        search(folder, trials=1)
    assert caught.value.message == (
        f"{folder}: the study around {parent} was begun by an earlier version, which searched around another network "
        "in its place"
    )
    assert caught.value.fix.startswith("name the other structures with --parent")


def test_a_study_around_an_older_spelling_of_its_parent_goes_on(folder: Path) -> None:
    old = "32x32.basicblock-w4-conv7-11-21-21-21.c4.rpn.fc"
    search(folder, trials=1, parents=(OTHER,))
    with closing(sqlite3.connect(folder / "study.db")) as database, database:
        database.execute(
            "UPDATE studies SET study_name = ? WHERE study_name = ?", (f"modular/{old}", f"modular/{OTHER}")
        )

    assert search(folder, trials=1, num_parents=1).trained == 1
    assert search(folder, trials=1, parents=(old, OTHER)).trained == 1
    assert [stage_name(study) for study in StudyFolder(folder).modular] == [f"modular/{old}"]
    assert search(folder, trials=2, parents=(OTHER,)).trained == 2
    assert StudyFolder(folder).find(f"modular/{OTHER}") is None


def test_the_same_command_adds_nothing_and_a_larger_budget_goes_on(folder: Path) -> None:
    search(folder, trials=2, parents=(DEEP, OTHER))
    before = trained(folder)

    assert search(folder, trials=2).trained == 2
    assert trained(folder) == before
    assert search(folder, trials=3).trained == 3
    assert sorted(len(records) for records in trained(folder).values()) == [1, 2]


def test_other_parents_are_added_and_count_together(folder: Path) -> None:
    search(folder, trials=1, num_parents=1)
    (first,) = trained(folder)
    assert first in [record.arch for record in pareto_front(read_records(StudyFolder(folder).load(STRUCTURAL)))]

    search(folder, trials=2, parents=(OTHER,))
    assert [len(records) for records in trained(folder).values()] == [1, 1]
    assert list(trained(folder)) == [first, OTHER]
    assert StudyFolder(folder).ended("modular")["reason"].startswith("budget reached: 2 of 2"), (
        "whichever parent was searched"
    )
    assert search(folder, trials=2).trained == 2, "whoever names none goes on with all that are there"
    assert len(trained(folder)) == 2


def test_what_numbers_depend_on_is_held_to(folder: Path) -> None:
    change(folder, ("epochs = 2", "epochs = 3"))

    with pytest.raises(StudyError, match="made with other recipe") as caught:
        search(folder, trials=1)
    assert caught.value.first == "recipe.train.epochs was 2, is 3"


def test_another_modular_space_is_refused_once_it_has_begun(folder: Path) -> None:
    change(folder, ("max_blocks = 9", "max_blocks = 10"))
    search(folder, trials=1, num_parents=1)
    change(folder, ("max_blocks = 10", "max_blocks = 11"))

    with pytest.raises(StudyError, match="made with other space"):
        search(folder, trials=1)


def test_a_plan_changes_nothing(folder: Path) -> None:
    listener = Notes()

    request = Request(study_dir=folder, stage="modular", trials=3, device="cpu")
    describe_search(request, listener=listener, stop=StopRequest(), workers=2)

    text = "\n".join(listener.notes)
    assert "for all that are left (3), shared by 2 workers, if they are like these" in text
    assert "budget: 3 of them trained from scratch, 2 epochs each; 0 are trained already" in text
    assert "architectures around 32x32.resnet18-w4" in text
    assert "5 to 9 blocks of base channels 4, 8 at 32x32" in text
    assert StudyFolder(folder).modular == []


def test_a_dry_run_says_what_is_learnt_from_another_study(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    listener = Notes()

    request = Request(study_dir=folder, stage="modular", trials=3, device="cpu", warm_start=(other,))
    describe_search(request, listener=listener, stop=StopRequest())

    assert f"surrogate: learns from 4 trainings of {other}" in listener.notes
    assert StudyFolder(folder).modular == []


def test_fronts_are_timed_together(folder: Path) -> None:
    search(folder, trials=2)
    request, listener = Request(study_dir=folder, stage="modular", device="cpu"), Notes()
    assert not summarize(*StudyFolder(folder).of_stage(None)).timed_together

    retime_fronts(request, listener=listener, stop=StopRequest())

    summary = summarize(*StudyFolder(folder).of_stage(None))
    timed = StudyFolder(folder).load(STRUCTURAL).user_attrs.get(RETIMED, {})
    members = {record.arch for front in summary.fronts.values() for record in front}
    kept = {note.partition(":")[0] for note in listener.notes if "keeps its latency" in note}
    assert members <= timed.keys() | kept, "a busy machine may give imprecise latencies"
    assert summary.timed_together == (not members & kept)


def test_limits_prune_before_training_and_are_judged_anew(folder: Path) -> None:
    change(folder, ("[search]\n", "[search]\nmax_latency_ms = 0.001953125\n"))
    search(folder, trials=1, parents=(OTHER,))

    (study,) = StudyFolder(folder).modular
    first = read_records(study)[0]
    assert (first.state, first.pruned, first.epochs_done) == ("pruned", Pruned(over_budget=("max_latency_ms",)), 0)
    assert str(first.reason).startswith("over budget: about ")
    assert str(first.reason).endswith(" ms, more than [search] max_latency_ms = 0.001953125")
    assert first.attrs["violation_max_latency_ms"] > 0
    assert not any(record.trained for record in read_records(study))

    change(folder, ("max_latency_ms = 0.001953125", "max_latency_ms = 1e9"))
    assert search(folder, trials=1, parents=(OTHER,)).trained == 1
    last = read_records(study)[-1]
    assert last.arch == first.arch
    assert study.trials[-1].constraints == {"max_latency_ms": pytest.approx(-1.0, abs=1e-3)}
    assert last.feasible


def test_a_limit_holds_for_the_fronts_of_both_stages(folder: Path) -> None:
    search(folder, trials=1, parents=(OTHER,))
    assert all(pareto_front(read_records(study)) for study in StudyFolder(folder).of_stage(None))
    change(folder, ("[search]\n", "[search]\nmax_params = 1\n"))

    outcome = search(folder, trials=1)

    assert outcome.reason.startswith("budget reached: 1 of 1")
    assert all(pareto_front(read_records(study)) == [] for study in StudyFolder(folder).of_stage(None))
    for study in StudyFolder(folder).of_stage(None):
        seen = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{folder / 'study.db'}")
        assert seen.best_trials == [], "Optuna agrees, as its constraints follow the limits"


def test_a_limit_that_no_structure_keeps_to_is_said(folder: Path) -> None:
    change(folder, ("[search]\n", "[search]\nmax_params = 1\n"))

    with pytest.raises(StudyError) as caught:
        search(folder, trials=1)
    assert caught.value.message == f"{folder}: none of the trained structures keeps to the limits in [search]"
    assert caught.value.fix.startswith("allow more (max_latency_ms, max_params), name a structure with --parent")


def test_partial_order_pruning_can_be_switched_off(folder: Path) -> None:
    # Every detector that is slower than another one and no larger than a third is now ruled out.
    change(folder, ("[search]\n", "[search]\nap_spread = 0.0\n"))
    search(folder, trials=6, parents=(OTHER,))
    (study,) = StudyFolder(folder).modular
    pruned = [record for record in read_records(study) if record.pruned and record.pruned.dominated_by]
    everyone = [record for each in StudyFolder(folder).of_stage(None) for record in read_records(each)]
    for record in pruned:
        assert record.pruned is not None
        big, fast = record.pruned.dominated_by
        assert str(record.reason).startswith(f"no better than {big} (AP ")
        assert f"slower than {fast} (AP " in str(record.reason)
        known = [other for other in everyone if other.arch in (big, fast) and other.trained]
        assert record.gate_ratio is not None
        assert find_witnesses(decode(str(record.arch)), record.gate_ratio, known, 0.0) is not None

    search(folder, trials=7, parents=(OTHER,), pruning=False)
    assert read_records(study)[-1].pruned is None


OWN_RECIPE = "[modular.train]\nepochs = 3\n"


def test_with_a_recipe_of_its_own_parents_are_trained_again_and_stage_1_answers_nothing(folder: Path) -> None:
    parent = next(record.arch for record in read_records(StudyFolder(folder).load(STRUCTURAL)) if record.trained)
    before = StudyFolder(folder).load(STRUCTURAL).user_attrs[FINGERPRINT]
    weights = {file.parent.name for file in folder.rglob("weights.safetensors")}
    change(folder, ("[train]", f"{OWN_RECIPE}[train]"))
    listener = Notes()

    search(folder, trials=2, parents=(str(parent),), listener=listener)

    structural, modular = StudyFolder(folder).studies
    records = read_records(modular)
    assert records[0].arch == parent
    assert records[0].trained
    assert [record.epochs_done for record in records if record.trained] == [3, 3]
    assert all(record.attrs.get("cached_study") is None for record in records)
    assert structural.user_attrs[FINGERPRINT] == before, "stage 1 goes on as it began"
    assert modular.user_attrs[FINGERPRINT]["recipe"]["train"] == {**before["recipe"]["train"], "epochs": 3}
    text = "\n".join(listener.notes)
    assert "recipe: [modular.train] has epochs = 3. APs do not compare with those of stage 1: parents are" in text
    assert "budget: 2 of them trained from scratch, 3 epochs each; 0 are trained already" in text
    assert weights <= {file.parent.name for file in folder.rglob("weights.safetensors")}, "of the front of stage 1"
    summary = summarize(*StudyFolder(folder).of_stage(None))
    assert (summary.apart, {record.study for record in summary.front}) == (True, {modular.study_name})


def test_stage_1_takes_nothing_from_a_stage_2_of_another_recipe(folder: Path) -> None:
    change(folder, ("[train]", f"{OWN_RECIPE}[train]"))
    search(folder, trials=1, parents=(OTHER,))
    assert [record.arch for record in trained(folder)[OTHER]] == [OTHER]
    change(folder, ('.none.retina"]', f'.none.retina", "{OTHER}"]'))
    known = sum(record.trained for record in read_records(StudyFolder(folder).load(STRUCTURAL)))
    request = Request(study_dir=folder, trials=known + 1, device="cpu")

    run_search(request, listener=Listener(), stop=StopRequest())

    last = read_records(StudyFolder(folder).load(STRUCTURAL))[-1]
    assert (last.arch, last.trained, last.epochs_done, last.cached_from) == (OTHER, True, 2, None)


def test_another_recipe_is_refused_once_stage_2_has_begun(folder: Path) -> None:
    search(folder, trials=1, num_parents=1)
    change(folder, ("[train]", f"{OWN_RECIPE}[train]"))

    with pytest.raises(StudyError, match="made with other recipe") as caught:
        search(folder, trials=2)
    assert caught.value.first == "recipe.train.epochs was 2, is 3"


def test_a_recipe_that_changes_nothing_is_that_of_stage_1(folder: Path) -> None:
    search(folder, trials=1, num_parents=1)
    change(folder, ("[train]", "[modular.train]\nepochs = 2\n[train]"))
    listener = Notes()

    search(folder, trials=2, listener=listener)

    assert not any(note.startswith("recipe: ") for note in listener.notes)
    assert not summarize(*StudyFolder(folder).of_stage(None)).apart


def test_rungs_are_those_of_the_epochs_of_the_stage(folder: Path) -> None:
    change(folder, ("[train]", "[modular.train]\nepochs = 4\n[train]"))

    search(folder, trials=1, num_parents=1)

    (records,) = trained(folder).values()
    assert [list(record.ap_by_epoch) for record in records] == [[1]]
    structural = read_records(StudyFolder(folder).load(STRUCTURAL))
    assert all(not record.ap_by_epoch for record in structural), "a quarter of 2 epochs is none"


@pytest.mark.parametrize("own", [True, False])
def test_the_surrogate_learns_from_the_other_recipe_as_from_another_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    if own:
        change(folder, ("[train]", f"{OWN_RECIPE}[train]"))
    known = sum(record.trained for record in read_records(StudyFolder(folder).load(STRUCTURAL)))
    tasks, others = list[str](), list[TrialRecord]()

    def listen(*args: Any, **named: Any) -> NSGAIISampler:
        tasks.extend(each.task for each in named["earlier"]() if each.ap is not None)
        others.extend(record for record in named["other_trials"]() if record.trained)
        return build_sampler(*args, **named)

    monkeypatch.setattr(turns, "build_sampler", listen)
    search(folder, trials=1, num_parents=1)

    assert tasks == ["another recipe"] * (known if own else 0)
    assert len(others) == (0 if own else known)
