from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH
from smnas_optuna.study import record as record_module
from smnas_optuna.study.attributes import REFERENCE_MS, RETIMED, TIMED_TOGETHER
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import contenders, pareto_front
from smnas_optuna.study.record import TrialRecord, folder_scale, read_record, read_records
from smnas_optuna.study.scale import FEW, PART, Latency, ReferenceTimes, Unit, estimate_unit
from smnas_optuna.study.settled import UNKNOWN_SHARE, trained_share
from smnas_optuna.study.storage import make_storage, open_storage
from smnas_optuna.study.stored import trial_attrs

from ..report.report_studies import FAST, MIDDLE, POOR, SLIM, STRONG

Measured = Mapping[str, Any]


HOSTILE: tuple[object, ...] = (None, "10", True, 0, -1.0, float("nan"), float("inf"), 10**400, [], {"ms": 1})


def new_study(storage: Any = None, name: str = "structural", reference_ms: float | None = None) -> Study:
    study = optuna.create_study(storage=storage, study_name=name, directions=["minimize", "maximize"])
    if reference_ms is not None:
        study.set_user_attr(REFERENCE_MS, reference_ms)
    return study


def measured(ratio: float, reference_ms: float, *, width: float = 0.02) -> dict[str, Any]:
    """As a trial of commit 3dbf8fb stores it, as far as latencies depend on it; its interval has that width."""
    ends = {"ratio_low": ratio * (1 - width / 2), "ratio_high": ratio * (1 + width / 2)}
    return {"ratio": ratio, **ends, "reference_p10_ms": reference_ms, "alone": True}


def add(
    study: Study,
    arch: str,
    ap: float,
    *,
    ratio: float,
    gate_ratio: float | None = None,
    times_ms: tuple[float, float] = (10.0, 10.0),
    width: float = 0.02,
    gate_width: float = 0.02,
    **attrs: Any,
) -> None:
    """Add a trained trial; ``times_ms``: what the reference detector took in its gate and its last measurement."""
    constant_ms, gate_ratio = study.user_attrs[REFERENCE_MS], gate_ratio or ratio
    gate = measured(gate_ratio, times_ms[0], width=gate_width)
    latency = measured(ratio, times_ms[1], width=width)
    stored = {"arch": arch, "gate": gate, "gate_ms": gate_ratio * constant_ms, "latency": latency, **attrs}
    study.add_trial(create_trial(values=[ratio * constant_ms, ap], user_attrs=stored))


def latencies(study: Study) -> list[float | None]:
    return [record.latency_ms for record in read_records(study)]


@pytest.mark.parametrize(
    ("times_ms", "unit"),
    [
        ([], None),
        ([8.0], Unit(ms=8.0, num_measurements=1, spread=0.0, num_alone=1)),
        ([27.0, 8.0], Unit(ms=8.0, num_measurements=2, spread=27 / 8 - 1, num_alone=2)),
        ([27.0, 8.0, 8.2, 9.5, 23.0, 30.0], Unit(ms=8.0, num_measurements=6, spread=9.5 / 8 - 1, num_alone=6)),
        ([8.0 + place for place in range(PART - 1)], Unit(ms=8.0, num_measurements=15, spread=0.25, num_alone=15)),
        ([8.0 + place for place in range(PART)], Unit(ms=9.0, num_measurements=16, spread=0.25, num_alone=16)),
        ([8.0 + place for place in range(10 * PART)], Unit(ms=18.0, num_measurements=160, spread=0.25, num_alone=160)),
    ],
)
def test_the_unit_is_a_low_one_of_all_measurements(times_ms: list[float], unit: Unit | None) -> None:
    assert estimate_unit(reversed(times_ms)) == unit


@pytest.mark.parametrize(
    ("unit", "doubt"),
    [
        (
            Unit(ms=8.0, num_measurements=1, spread=0.0, num_alone=1),
            "it rests on 1 measurement of the reference detector",
        ),
        (
            Unit(ms=8.0, num_measurements=FEW - 1, spread=0.0, num_alone=FEW - 1),
            "it rests on 5 measurements of the reference detector",
        ),
        (
            Unit(ms=8.0, num_measurements=FEW, spread=0.41, num_alone=FEW),
            "the lowest 3 of 6 measurements of the reference detector differ by 41 %",
        ),
        (
            Unit(ms=8.0, num_measurements=FEW, spread=0.05, num_alone=0),
            "other work on the machine disturbed all 6 measurements of the reference detector",
        ),
        (Unit(ms=8.0, num_measurements=FEW, spread=0.05, num_alone=1), None),
    ],
)
def test_a_unit_of_few_or_scattered_measurements_is_doubtful(unit: Unit, doubt: str | None) -> None:
    assert unit.doubt == doubt


@pytest.mark.parametrize(("known", "num_alone"), [([], 6), ([False] * 6, 0), ([False] * 5 + [True], 1), ([None], 6)])
def test_measurements_beside_other_work_are_counted_apart(known: list[bool | None], num_alone: int) -> None:
    study = new_study(reference_ms=8.0)
    for place in range(3):
        alone = [{"alone": each} for each in known[2 * place : 2 * place + 2]]
        gate, latency = ({**measured(1.0, 8.0), **each} for each in [*alone, {}, {}][:2])
        study.ask().set_user_attr("gate", gate)
        study.ask().set_user_attr("latency", latency)

    unit = folder_scale(study).unit

    assert unit == Unit(ms=8.0, num_measurements=6, spread=0.0, num_alone=num_alone)


def simulated(random: np.random.Generator, *, constant_ms: float, quiet: float, trials: int) -> Study:
    """A study of two detectors on a machine whose reference takes 8.6 ms, of whose measurements a part is quiet.

    Other work lengthens the others by a factor of 1.1 to 6. Each machine state moves a quiet one by 1 %.
    """

    def time_ms() -> float:
        calm_ms = 8.6 * float(random.normal(1, 0.01))
        return calm_ms if random.random() < quiet else calm_ms * (1.1 + float(random.exponential(1.5)))

    study = new_study(reference_ms=constant_ms)
    for number in range(trials):
        times_ms = constant_ms if number == 0 else time_ms(), time_ms()
        add(study, MIDDLE if number else FAST, 0.3, ratio=1.7 if number else 0.5, times_ms=times_ms)
    return study


@pytest.mark.parametrize("seed", range(20))
def test_studies_begun_at_different_loads_agree_in_milliseconds(seed: int) -> None:
    random = np.random.default_rng(seed)
    begun_at = {26.99: 0.4, 8.21: 0.9, 23.47: 0.5, 9.49: 0.7}  # ms of the first measurement -> quiet part of all
    studies = [
        simulated(random, constant_ms=first_ms, quiet=quiet, trials=int(random.integers(6, 40)))
        for first_ms, quiet in begun_at.items()
    ]

    for number in (0, 1):
        found = [float(latencies(study)[number] or 0.0) for study in studies]
        assert max(found) / min(found) < 1.05
    stored = [float(study.trials[1].values[0]) for study in studies]
    assert max(stored) / min(stored) > 3, "as Optuna stores them they do not"


positive = st.floats(0.01, 1e4)


@given(
    ratios=st.lists(st.tuples(positive, positive, positive, positive), min_size=1, max_size=20),
    constant_ms=positive,
    other_ms=positive,
)
def test_every_latency_is_scaled_once_whatever_the_constant_is(
    ratios: list[tuple[float, float, float, float]], constant_ms: float, other_ms: float
) -> None:
    studies = [new_study(reference_ms=each) for each in (constant_ms, other_ms)]
    for study in studies:
        for ratio, gate_ratio, *times_ms in ratios:
            add(study, MIDDLE, 0.3, ratio=ratio, gate_ratio=gate_ratio, times_ms=(times_ms[0], times_ms[1]))
    unit = estimate_unit(time_ms for *_, gate_ms, last_ms in ratios for time_ms in (gate_ms, last_ms))
    assert unit is not None

    for study in studies:
        for _ in range(2):  # finished records are cached
            records = read_records(study)
            assert [r.latency_ms for r in records] == pytest.approx([ratio * unit.ms for ratio, *_ in ratios])
            assert [r.gate_ms for r in records] == pytest.approx([gate * unit.ms for _, gate, *_ in ratios])
            assert [r.attrs["gate_ms"] for r in records] == pytest.approx([r.gate_ms for r in records])
    assert folder_scale(studies[0]) == folder_scale(studies[1])
    order = [sorted(range(len(ratios)), key=lambda place: latencies(study)[place] or 0.0) for study in studies]
    assert order[0] == order[1]


def test_a_later_quiet_measurement_rescales_what_was_read_before() -> None:
    study = new_study(reference_ms=27.0)
    add(study, MIDDLE, 0.3, ratio=2.0, times_ms=(27.0, 24.0))
    study.set_user_attr("limits", Limits(max_latency_ms=30.0).as_json())
    (record,) = read_records(study)
    assert record.latency_ms == pytest.approx(48.0)
    assert not record.feasible

    study.ask().set_user_attr("gate", measured(1.0, 8.0))  # of a trial that still runs

    (record, _) = read_records(study)
    assert record.latency_ms == pytest.approx(16.0)
    assert record.feasible
    assert (record.stored_ms, study.trials[0].values[0]) == (54.0, 54.0), "Optuna's value stays"


def test_all_studies_of_a_folder_share_a_unit_and_other_folders_do_not() -> None:
    storage = optuna.storages.InMemoryStorage()
    names = ("a/structural", f"a/modular/{MIDDLE}", "b/structural", "other", "bystander/structural")
    studies = [new_study(storage, name, reference_ms=20.0) for name in names]
    for study, time_ms in zip(studies, (16.0, 10.0, 5.0, 4.0, 2.0), strict=True):
        add(study, FAST, 0.3, ratio=1.0, times_ms=(time_ms, time_ms))

    assert [latencies(study) for study in studies] == [[pytest.approx(ms)] for ms in (10.0, 10.0, 5.0, 4.0, 2.0)]


def test_a_study_that_knows_no_measurement_stays_as_it_is_stored() -> None:
    study = new_study(reference_ms=20.0)
    study.add_trial(create_trial(values=[12.25, 0.5], user_attrs={"arch": FAST, "gate_ms": 13.0}))

    (record,) = read_records(study)

    assert (record.latency_ms, record.gate_ms, folder_scale(study).unit) == (12.25, 13.0, None)
    assert record.latency == Latency(ms=12.25, low_ms=12.25, high_ms=12.25)


def test_what_force_allowed_and_what_was_copied_do_not_count_for_the_unit() -> None:
    study = new_study(reference_ms=10.0)
    add(study, FAST, 0.3, ratio=1.0)
    add(study, MIDDLE, 0.3, ratio=1.0, times_ms=(1.0, 1.0), forced=["device.model was A, is B"])
    add(study, FAST, 0.3, ratio=1.0, times_ms=(2.0, 2.0), cached_from=0)

    assert folder_scale(study).unit == Unit(ms=10.0, num_measurements=2, spread=0.0, num_alone=2)


def test_a_trial_of_another_number_of_objectives_is_not_trained() -> None:
    record = read_record(create_trial(value=1.0, user_attrs={"arch": FAST}))

    assert (record.trained, record.latency_ms, record.ap) == (False, None, None)


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_constant_that_makes_no_sense_scales_nothing(value: object) -> None:
    study = new_study(reference_ms=10.0)
    add(study, FAST, 0.3, ratio=1.0, times_ms=(5.0, 5.0))
    study.set_user_attr(REFERENCE_MS, value)

    assert latencies(study) == [10.0]


def test_a_latency_is_precise_if_its_interval_is_narrow() -> None:
    narrow, wide = Latency(ms=10.0, low_ms=9.6, high_ms=10.5), Latency(ms=10.0, low_ms=8.1, high_ms=13.9)

    assert narrow.high_ms - narrow.low_ms <= ACCEPTABLE_WIDTH * narrow.ms
    assert (narrow.precise, narrow.safe_ms, narrow.least_ms) == (True, 10.0, 10.0)
    assert (wide.precise, wide.safe_ms, wide.least_ms) == (False, 13.9, 8.1)


def by_luck(low: float = 0.07, high: float = 8.65) -> Study:
    """FAST took half of the reference's time, in an interval from ``low`` to ``high``; before it are honest ones."""
    study = new_study(reference_ms=10.0)
    add(study, MIDDLE, 0.2, ratio=1.0, gate_ratio=1.25)
    add(study, STRONG, 0.4, ratio=2.0, gate_ratio=2.5)
    add(study, POOR, 0.1, ratio=3.0, gate_ratio=3.5)
    latency = {**measured(0.5, 10.0), "ratio_low": low, "ratio_high": high}
    gate = {"gate": measured(2.0, 10.0), "gate_ms": 20.0}
    study.add_trial(create_trial(values=[5.0, 0.45], user_attrs={"arch": FAST, **gate, "latency": latency}))
    return study


def test_an_imprecise_latency_dominates_nobody_and_loosens_no_limit() -> None:
    *honest, lucky = read_records(by_luck())

    assert lucky.latency is not None
    assert [lucky.latency.ms, lucky.latency.low_ms, lucky.latency.high_ms] == pytest.approx([5.0, 0.7, 86.5])
    assert lucky.latency_ms == lucky.latency.high_ms
    assert [record.arch for record in pareto_front([*honest, lucky])] == [MIDDLE, STRONG, FAST]
    assert trained_share([*honest, lucky]) == pytest.approx(0.8)
    assert trained_share([lucky]) == UNKNOWN_SHARE
    precise = read_records(by_luck(low=0.48, high=0.52))
    assert [record.arch for record in pareto_front(precise)] == [FAST]
    assert trained_share(precise) == pytest.approx(0.25)


def test_an_imprecise_gate_latency_beats_nobody_and_rules_nobody_out() -> None:
    study = new_study(reference_ms=10.0)
    add(study, FAST, 0.3, ratio=1.0, gate_ratio=1.5, gate_width=1.0)

    (record,) = read_records(study)

    assert record.gate_ratio == pytest.approx(2.25)
    assert record.gate_ms == pytest.approx(7.5)
    assert trained_share([record]) == UNKNOWN_SHARE


def contending(study: Study) -> list[str | None]:
    return [record.arch for record in contenders(read_records(study))]


def test_what_may_be_on_the_front_when_it_is_measured_again_is_a_contender() -> None:
    study = by_luck()
    add(study, SLIM, 0.19, ratio=1.015)  # dominated by MIDDLE, but their intervals meet

    assert contending(study) == [MIDDLE, STRONG, FAST, SLIM]
    assert contending(by_luck(low=0.48, high=0.52)) == [FAST]


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.floats(0, 1)), max_size=12),
)
def test_every_member_of_the_front_is_a_contender(trials: list[tuple[float, float, float]]) -> None:
    study = new_study(reference_ms=10.0)
    for ratio, ap, width in trials:
        add(study, FAST, ap, ratio=ratio, width=width)
    records = read_records(study)

    numbers = {record.number for record in contenders(records)}

    assert {record.number for record in pareto_front(records)} <= numbers


def retimed(study: Study, ratios: Mapping[str, float], *, reference_ms: float = 8.0) -> None:
    constant_ms = study.user_attrs[REFERENCE_MS]
    entries = {
        arch: {**measured(ratio, reference_ms), "stored_ms": ratio * constant_ms, "run": "today"}
        for arch, ratio in ratios.items()
    }
    study.set_user_attr(RETIMED, entries)


def test_what_was_measured_again_is_the_latency_of_its_architecture_everywhere() -> None:
    storage = optuna.storages.InMemoryStorage()
    structural = new_study(storage, reference_ms=20.0)
    modular = new_study(storage, f"modular/{MIDDLE}", reference_ms=20.0)
    add(structural, FAST, 0.2, ratio=0.5)
    add(structural, MIDDLE, 0.3, ratio=1.0)
    add(modular, SLIM, 0.3, ratio=0.9)
    add(modular, MIDDLE, 0.3, ratio=1.0, cached_from=1, cached_study="structural")

    retimed(structural, {MIDDLE: 1.5, SLIM: 1.25})

    first, second = read_records(structural), read_records(modular)
    assert [record.latency_ms for record in first] == pytest.approx([4.0, 12.0]), "in the unit that it improved"
    assert [record.latency_ms for record in second] == pytest.approx([10.0, 12.0])
    assert [record.retimed for record in [*first, *second]] == [None, "today", "today", "today"]
    assert [record.attrs["latency"]["ratio"] for record in [*first, *second]] == [0.5, 1.5, 1.25, 1.5]
    assert [record.stored_ms for record in first] == [10.0, 20.0]


def test_what_commit_3dbf8fb_timed_together_is_read_the_same_way() -> None:
    study = new_study(reference_ms=20.0)
    add(study, FAST, 0.2, ratio=0.5)
    add(study, MIDDLE, 0.3, ratio=1.0)
    study.set_user_attr(TIMED_TOGETHER, {MIDDLE: 30.0})

    assert latencies(study) == pytest.approx([5.0, 15.0])
    assert [record.retimed for record in read_records(study)] == [None, TIMED_TOGETHER]

    retimed(study, {MIDDLE: 1.25}, reference_ms=10.0)
    assert latencies(study) == pytest.approx([5.0, 12.5]), "the last run counts"


def test_optuna_dashboard_reads_the_same_latencies(tmp_path: Path) -> None:
    make_storage(tmp_path)
    study = new_study(f"sqlite:///{tmp_path}/study.db", reference_ms=27.0)
    add(study, FAST, 0.2, ratio=0.5, times_ms=(27.0, 8.0), expected_latency_ms=27.0)
    add(study, MIDDLE, 0.3, ratio=1.0, width=0.5)
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"arch": POOR}))
    retimed(study, {FAST: 0.75})

    storage = open_storage(tmp_path, read_only=True)
    try:
        shown: list[Sequence[Any]] = [
            storage.get_all_trials(1, deepcopy=False),
            optuna.load_study(study_name="structural", storage=storage).trials,  # behind Optuna's cache
        ]
    finally:
        storage.engine.dispose()

    records: list[TrialRecord] = read_records(study)
    for trials in shown:
        assert [trial.values for trial in trials] == [pytest.approx([6.0, 0.2]), pytest.approx([10.0, 0.3]), None]
        assert [trial.user_attrs for trial in trials] == [record.attrs for record in records]
    assert shown[0][0].user_attrs["expected_latency_ms"] == pytest.approx(8.0)
    assert study.trials[0].values[0] == 13.5


class Counted:
    """A trial that counts how often its attributes are read."""

    def __init__(self, number: int, time_ms: float, state: TrialState = TrialState.COMPLETE) -> None:
        self.number, self.state, self.reads = number, state, 0
        self._attrs = {"gate": measured(1.0, time_ms)}

    @property
    def user_attrs(self) -> dict[str, Any]:
        self.reads += 1
        return self._attrs


def test_reference_times_of_finished_trials_are_read_once() -> None:
    times = ReferenceTimes()
    running: Any = Counted(1, 5.0, TrialState.RUNNING)
    trials: list[Any] = [Counted(0, 9.0), running, Counted(2, 7.0)]
    assert [time_ms for time_ms, _ in times.of(trials)] == [7.0, 9.0, 5.0]
    before = [trial.reads for trial in trials]

    assert [time_ms for time_ms, _ in times.of(trials)] == [7.0, 9.0, 5.0]
    assert [trial.reads - was for trial, was in zip(trials, before, strict=True)] == [0, 1, 0]

    running.state = TrialState.COMPLETE
    later: list[Any] = [*trials, Counted(3, 1.0)]
    assert [time_ms for time_ms, _ in times.of(later)] == [1.0, 5.0, 7.0, 9.0]


def test_a_new_scale_checks_no_attribute_again(monkeypatch: pytest.MonkeyPatch) -> None:
    study = new_study(reference_ms=10.0)
    for _ in range(3):
        add(study, FAST, 0.3, ratio=1.0)
    read_records(study)
    checked = list[FrozenTrial]()

    def check(trial: FrozenTrial) -> tuple[dict[str, Any], str | None]:
        checked.append(trial)
        return trial_attrs(trial)

    monkeypatch.setattr(record_module, "trial_attrs", check)

    add(study, MIDDLE, 0.3, ratio=1.0, times_ms=(5.0, 5.0))

    assert latencies(study) == pytest.approx([5.0] * 4)
    assert len(checked) == 1
