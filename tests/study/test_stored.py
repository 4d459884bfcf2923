"""Hostile attributes: what no version of this package stores is shown as that, and counts for nothing."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import NSGAIISampler, RandomSampler
from optuna.trial import TrialState, create_trial
from rich.console import Console

from smnas_optuna.api.trial import trial_of
from smnas_optuna.errors import StudyError
from smnas_optuna.report.summary import summarize
from smnas_optuna.report.tables import front_csv, front_json, print_front
from smnas_optuna.search.loop import search
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import FINGERPRINT, LIMITS
from smnas_optuna.study.fingerprint import check_ours
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.forms import is_arch
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import generation_of, stored_parents
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import STRUCTURAL, TrialRecord, read_record, read_records
from smnas_optuna.study.settled import known_results, num_trained
from smnas_optuna.study.stored import STUDY_FORMS, TRIAL_FORMS, check_drawn, study_attrs
from smnas_optuna.study.took import took
from smnas_optuna.workers.interrupt import StopRequest

from ..search.conftest import closed_form, make_stage, make_study, registered

ARCH = "64x48.resnet18-w8.c4.rpn.fc"
OWN: dict[str, Any] = {
    "worker": "host-12-0123abcd",
    "arch": ARCH,
    "spec": {"input_size": {"long": 64}},
    "generation": 0,
    "baseline": True,
    "origin": "child",
    "ranked": True,
    "seed": 2**32 - 1,
    "device": {"kind": "cpu", "model": "AMD EPYC", "threads": 2},
    "versions": {"torch": "2.14.1+cu130"},
    "num_params": 1_000,
    "multiply_adds": 2_000,
    "flops": 4_000,
    "gate": {"ratio": 0.5, "median_ms": None, "gpu": None},
    "gate_ms": 12.5,
    "expected_latency_ms": float("nan"),
    "epochs_before": 0,
    "epochs_done": 2,
    "forced": ["recipe.train.epochs was 2, is 3"],
    "seconds": {"train": 1.5, "bookkeeping": 0.0},
    "estimated_seconds": 100.0,
    "over_budget": ["max_params"],
    "dominated_by": ["big", "fast"],
    "ap_by_epoch": {"1": 0.25},
    "stopped_at_epoch": 1,
    "stopped_by": ARCH,
    "metrics": {"ap": 0.5, "ap_small": None, "ar1": float("nan")},
    "latency": {"ratio": 0.5, "interval": [0.4, 0.6], "runtime": "eager"},
    "skipped_steps": 0,
    "weights": f"runs/{ARCH}",
    "reason": "over budget",
    "killed": False,
}
"""Everything that a search stores with a trial, but an answer's ``cached_from`` and ``cached_study``."""
WRONG: list[Any] = [
    *(None, True, -1, 1.5, float("inf"), 10**400, "", "x", "../../etc", "\x1b[2J", "x" * 10_000, "\ud800"),
    *([], [None], [[]], ["\n"], {}, {"": None}, {"x": "y"}, {"ratio": "x"}, {"1": {}}, {"threads": -1}),
]


def complete(**attrs: Any) -> TrialRecord:
    return read_record(create_trial(values=(2.0, 0.5), user_attrs=attrs))


def test_what_a_search_stores_is_read_as_it_is() -> None:
    record = complete(**OWN)

    assert record.foreign is None
    assert record.trained
    assert record.attrs.keys() == OWN.keys()
    assert OWN.keys() | {"cached_from", "cached_study"} == TRIAL_FORMS.keys()
    answer = complete(**OWN, cached_from=3, cached_study="modular/" + ARCH)
    assert (answer.cached_from, answer.foreign, answer.trained) == (3, None, False)


@pytest.mark.parametrize("name", TRIAL_FORMS)
def test_a_trial_with_an_attribute_of_another_form_counts_for_nothing(name: str) -> None:
    wrong = [value for value in WRONG if not TRIAL_FORMS[name](value)]
    assert wrong

    for value in wrong:
        record = complete(**{**OWN, name: value})
        assert (record.foreign, record.trained, record.settles) == (name, False, False)
        assert record.reason == f"not a trial of smnas: {name} is not as it stores it"
        assert name not in record.attrs
        assert (record.state, pareto_front([record]), num_trained([record])) == ("complete", [], 0)
        assert known_results([record], Limits()) == {}


@pytest.mark.parametrize(
    "values", [(0.0, 0.5), (-1.0, 0.5), (float("inf"), 0.5), (1.0, 42.0), (1.0, -0.1), (1.0,), (1.0, 0.5, 0.5)], ids=str
)
def test_objectives_that_are_no_latency_and_ap_make_a_trial_foreign(values: tuple[float, ...]) -> None:
    record = read_record(create_trial(values=values, user_attrs=OWN))

    assert (record.foreign, record.trained, record.latency_ms, record.ap) == ("values", False, None, None)


def test_a_complete_trial_without_an_architecture_is_foreign_and_a_running_one_has_not_got_so_far() -> None:
    assert complete().foreign == "arch"
    assert read_record(create_trial(state=TrialState.RUNNING)).foreign is None


@pytest.mark.parametrize("name", ["", "..", "../x", ARCH + "/", ARCH + " ", ARCH.upper(), "x" * 10**6, "\0", "\ud800"])
def test_only_a_canonical_architecture_is_the_name_of_a_folder(name: str) -> None:
    assert is_arch(ARCH)
    assert not is_arch(name)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([ARCH, "1", "2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text of a process takes seconds
@given(
    st.dictionaries(st.sampled_from(sorted(TRIAL_FORMS)), json_values, max_size=4),
    st.dictionaries(st.sampled_from(sorted(STUDY_FORMS)), json_values, max_size=4),
    st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]),
)
def test_no_attribute_stops_those_who_look(trial: dict[str, Any], attrs: dict[str, Any], state: TrialState) -> None:
    study = optuna.create_study(study_name=STRUCTURAL, directions=["minimize", "maximize"])
    for name, value in attrs.items():
        study.set_user_attr(name, value)
    values = (2.0, 0.5) if state == TrialState.COMPLETE else None
    study.add_trial(create_trial(state=state, values=values, user_attrs={**OWN, **trial}))

    summary = summarize(study)

    print_front(summary, Console(quiet=True))
    json.loads(front_json(summary))
    assert all(line.isprintable() for line in front_csv(summary).split("\n"))
    (record,) = summary.records
    trial_of(record, StudyFolder(Path()), on_front=False)
    took(record, summary.records)
    wrong = [name for name, value in trial.items() if not TRIAL_FORMS[name](value)]
    assert (record.foreign is not None) == bool(wrong)
    assert not (record.trained and wrong)
    assert study_attrs(study).keys() == {name for name, value in attrs.items() if STUDY_FORMS[name](value)}


def test_a_foreign_trial_is_counted_apart() -> None:
    study = optuna.create_study(study_name=STRUCTURAL, directions=["minimize", "maximize"])
    for attrs in (OWN, {**OWN, "cached_from": "x"}):
        study.add_trial(create_trial(values=(2.0, 0.5), user_attrs=attrs))
    console = Console(width=200, record=True, file=io.StringIO())

    summary = summarize(study)
    print_front(summary, console)

    assert (summary.counts["complete"], summary.counts["foreign"], len(summary.front)) == (1, 1, 1)
    assert "structural: 1 trained (1 on the front), 1 not as smnas stores them" in console.export_text()


def test_limits_of_another_version_are_ignored_and_others_hold() -> None:
    stored = {**Limits(max_latency_ms=5.0).as_json(), "max_energy": 3}

    assert Limits.stored({LIMITS: stored}) == Limits(max_latency_ms=5.0)


@pytest.mark.parametrize(
    ("table", "column"),
    [("trial_user_attributes", "value_json"), ("study_user_attributes", "value_json"), ("trials", "state")],
)
@pytest.mark.parametrize("value", ["{", "[" * 100_000, "x"], ids=["cut off", "deep", "no JSON"])
def test_a_row_that_no_program_writes_is_named(tmp_path: Path, table: str, column: str, value: str) -> None:
    study = StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler())
    study.set_user_attr(FINGERPRINT, {})
    study.add_trial(create_trial(values=(2.0, 0.5), user_attrs=OWN))
    with closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        database.execute(f"UPDATE {table} SET {column} = ?", (value,))

    with pytest.raises(StudyError) as caught:
        read_records(StudyFolder(tmp_path).load(STRUCTURAL))

    assert "study structural: its " in str(caught.value)
    assert "cannot be read, as no program writes them: " in str(caught.value)
    assert "\n  fix: bring a copy of the database back" in str(caught.value)
    assert len(str(caught.value)) < 500


def foreign_study(folder: Path, directions: list[Any], trials: int = 1, **attrs: Any) -> bytes:
    """The study of another program; returns the content of its database."""
    study = optuna.create_study(
        study_name=STRUCTURAL, storage=f"sqlite:///{folder}/study.db", directions=directions, load_if_exists=True
    )
    for name, value in attrs.items():
        study.set_user_attr(name, value)
    for _ in range(trials):
        study.add_trial(create_trial(values=[1.0] * len(directions)))
    return (folder / "study.db").read_bytes()


@pytest.mark.parametrize(
    ("directions", "problem"),
    [
        (["minimize", "maximize"], "it has 1 trials and no fingerprint of smnas"),
        (["maximize", "maximize"], "its objectives are maximize and maximize, not minimize and maximize"),
        (["minimize"], "its objectives are minimize, not minimize and maximize"),
        (["minimize"] * 200, "its objectives are minimize and minimize and"),
    ],
    ids=["no fingerprint", "directions", "one objective", "many objectives"],
)
def test_the_study_of_another_program_is_refused_and_stays_as_it_is(
    tmp_path: Path, directions: list[Any], problem: str
) -> None:
    before = foreign_study(tmp_path, directions)

    for look in (
        lambda: StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler()),
        lambda: StudyFolder(tmp_path).load(STRUCTURAL),
        lambda: StudyFolder(tmp_path).studies,
    ):
        with pytest.raises(StudyError) as caught:
            look()
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'study.db'}: the study structural was made by another program: ")
        assert problem in message
        assert "\n  fix: leave that database to the other program, and search in a study folder of your own" in message
        assert len(message) < 500 + len(str(tmp_path))
    assert (tmp_path / "study.db").read_bytes() == before


def test_a_fingerprint_that_is_none_is_no_fingerprint(tmp_path: Path) -> None:
    foreign_study(tmp_path, ["minimize", "maximize"], fingerprint="theirs")

    with pytest.raises(StudyError, match="no fingerprint of smnas"):
        StudyFolder(tmp_path).load(STRUCTURAL)


def test_a_study_without_trials_is_taken_whoever_made_it(tmp_path: Path) -> None:
    foreign_study(tmp_path, ["minimize", "maximize"], trials=0)

    study = StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler())
    check_ours(study, tmp_path)
    assert study.metric_names == ["latency_ms", "mAP"]


CHOICES: dict[str, tuple[str | int, ...]] = {"size": ("s", "m"), "width": (4, 8)}
GENES = {name: CategoricalDistribution(values) for name, values in CHOICES.items()}
GENERATION = NSGAIISampler._get_generation_key()


def drawn_study(**changed: Any) -> optuna.Study:
    """A study with two trials as a search draws them, and one with what is ``changed``."""
    study = optuna.create_study(study_name=STRUCTURAL, directions=["minimize", "maximize"])
    for changes in ({}, {}, changed):
        whole: dict[str, Any] = {
            "values": (2.0, 0.5),
            "params": {"size": "m", "width": 8},
            "distributions": GENES,
            "system_attrs": {GENERATION: 1},
        }
        study.add_trial(create_trial(**{**whole, **changes}))
    study._storage.set_study_system_attr(study._study_id, NSGAIISampler._get_parent_cache_key_prefix() + "1", [0, 1])
    return study


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"system_attrs": {}},
        {"system_attrs": {GENERATION: -1}},
        {"state": TrialState.FAIL, "values": None, "params": {}, "distributions": {}},
    ],
    ids=["whole", "no generation", "outside", "died before it had genes"],
)
def test_what_a_search_draws_is_gone_on_with(changed: dict[str, Any]) -> None:
    check_drawn(drawn_study(**changed), CHOICES)
    check_drawn(drawn_study(**changed), None)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"params": {}, "distributions": {}}, "it has no gene 'size'"),
        ({"params": {"size": "m"}, "distributions": {"size": GENES["size"]}}, "it has no gene 'width'"),
        (
            {"params": {"size": "m", "width": 9}, "distributions": {**GENES, "width": CategoricalDistribution((8, 9))}},
            "its gene 'width' has other choices",
        ),
        (
            {"params": {"size": "m", "width": 8}, "distributions": {**GENES, "width": IntDistribution(4, 8)}},
            "its gene 'width' has other choices",
        ),
        ({"system_attrs": {GENERATION: "x\x1b[2J" * 99}}, "its generation is 'x\\x1b[2J"),
        ({"system_attrs": {GENERATION: [1]}}, "its generation is [1]"),
        ({"system_attrs": {GENERATION: 10**9}}, "its generation is 1000000000"),
    ],
    ids=["no genes", "a gene is gone", "choices", "another kind", "text", "a list", "far away"],
)
def test_what_optuna_cannot_go_on_with_is_said_before_it_does(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(StudyError) as caught:
        check_drawn(drawn_study(**changed), CHOICES)

    assert f"study structural: its trial 2 cannot be read, as no program writes them: {problem}" in str(caught.value)
    assert "\n  fix: bring a copy of the database back" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("parents", ["x", 3, {"0": 1}, [0, "1"], [[]], True], ids=str)
def test_parents_that_are_no_list_of_trials_are_refused(parents: Any) -> None:
    study = drawn_study()
    study._storage.set_study_system_attr(study._study_id, NSGAIISampler._get_parent_cache_key_prefix() + "2", parents)

    with pytest.raises(StudyError, match="its population cannot be read"):
        check_drawn(study, None)


def test_a_search_in_closed_form_draws_what_is_gone_on_with() -> None:
    study, stage = make_study(population=3), make_stage()
    with registered() as crew:
        search(study, stage, closed_form, budget=9, crew=crew, listener=Listener(), stop=StopRequest())

    check_drawn(study, stage.space.choices)
    assert stored_parents(study)
    assert {generation_of(trial) for trial in study.trials} >= {0, 1}
