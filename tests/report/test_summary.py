from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import TrialState

from smnas_optuna.report.summary import COUNTED, describe_data, stage_of, summarize
from smnas_optuna.study.record import ELSEWHERE, TrialRecord

from ..arch.named import named
from .report_studies import (
    DEEP,
    DEVICE,
    FAST,
    MIDDLE,
    POOR,
    SLIM,
    STRONG,
    add_trial,
    both_stages,
    full_study,
    new_study,
    timed_together,
    with_recipes,
)


def latencies(records: list[TrialRecord]) -> dict[str | None, float | None]:
    return {record.arch: record.latency_ms for record in records}


def test_the_front_is_in_the_order_of_latency_and_leaves_out_dominated_and_cached_trials() -> None:
    summary = summarize(full_study())

    assert [record.number for record in summary.front] == [2, 0, 3]
    assert [record.number for record in summary.records] == list(range(9))
    assert (summary.study, summary.device, summary.versions) == ("structural", DEVICE, {"torch": "2.14.0"})


def test_every_trial_is_counted_once() -> None:
    summary = summarize(full_study())

    assert summary.counts == {**dict.fromkeys(COUNTED, 1), "complete": 4}
    assert sum(summary.counts.values()) == len(summary.records)


def test_what_another_worker_trains_is_no_pruned_architecture() -> None:
    study = full_study()
    add_trial(study, None, TrialState.PRUNED, arch=POOR, reason=ELSEWHERE)

    assert summarize(study).counts == summarize(full_study()).counts


def test_a_study_without_trials_and_attributes_is_no_error() -> None:
    summary = summarize(new_study())

    assert (summary.front, summary.records, summary.device, summary.versions) == ([], [], {}, {})
    assert set(summary.counts.values()) == {0}


def test_two_stages_have_a_front_each_and_one_together() -> None:
    summary = summarize(*both_stages())

    assert {name: list(latencies(front).items()) for name, front in summary.fronts.items()} == {
        "structural": [(FAST, 3.5), (MIDDLE, 12.25), (STRONG, 140.0)],
        "modular": [(SLIM, 10.0), (DEEP, 150.0)],
    }
    assert [record.arch for record in summary.front] == [FAST, SLIM, STRONG, DEEP]
    assert [stage_of(record) for record in summary.front] == ["structural", "modular", "structural", "modular"]
    assert [(record.study, record.number) for record in summary.records[8:]] == [
        ("structural", 8),
        (f"modular/{MIDDLE}", 0),
        (f"modular/{MIDDLE}", 1),
        (f"modular/{STRONG}", 0),
    ]
    assert summary.counts == {**dict.fromkeys(COUNTED, 1), "complete": 6, "interrupted": 2}
    assert (summary.study, summary.device, summary.versions) == (
        "structural and modular",
        DEVICE,
        {"torch": "2.14.0"},
    )
    assert (summary.compares_stages, summary.timed_together) == (True, False)


def test_all_hypervolumes_are_bounded_by_the_same_point() -> None:
    summary = summarize(*both_stages())

    assert summary.reference == pytest.approx((165.0, 0.0))
    assert summary.hypervolumes == {
        "structural": pytest.approx(161.5 * 0.0625 + 152.75 * 0.1375 + 25.0 * 0.3),
        "modular": pytest.approx(155.0 * 0.25 + 15.0 * 0.375),
        "all": pytest.approx(161.5 * 0.0625 + 155.0 * 0.1875 + 25.0 * 0.25 + 15.0 * 0.125),
    }


def test_one_stage_has_the_hypervolume_of_its_front_twice() -> None:
    summary = summarize(full_study())
    area = pytest.approx((154.0 - 3.5) * 0.0625 + (154.0 - 12.25) * 0.1375 + 14.0 * 0.3)

    assert list(summary.fronts) == ["structural"]
    assert summary.hypervolumes == {"structural": area, "all": area}
    assert not summary.compares_stages


def test_what_was_timed_together_stands_with_that_latency_everywhere() -> None:
    summary = summarize(*timed_together({MIDDLE: 11.0, SLIM: 11.5, STRONG: 160.0}))

    assert summary.timed_together
    assert latencies(summary.front) == {FAST: 3.5, MIDDLE: 11.0, SLIM: 11.5, DEEP: 150.0}
    assert latencies(summary.fronts["structural"]) == {FAST: 3.5, MIDDLE: 11.0, STRONG: 160.0}
    trained = [record for record in summary.records if record.trained]
    assert latencies(trained) == {MIDDLE: 11.0, POOR: 30.0, FAST: 3.5, STRONG: 160.0, SLIM: 11.5, DEEP: 150.0}
    assert summary.records[4].latency_ms == 3.5  # FAST, from the cache
    assert summary.reference == pytest.approx((176.0, 0.0))


def test_latencies_that_were_stored_under_an_older_spelling_are_found() -> None:
    old, new = (f"64x48.{name}.c4.rpn.fc" for name in ("basicblock-w8-conv7-11-21-21-21", "resnet18-w8"))
    studies = timed_together({MIDDLE: 11.0, old: 149.0})
    add_trial(studies[2], (149.5, 0.62), TrialState.COMPLETE, arch=old)
    summary = summarize(*studies)

    assert latencies(summary.fronts["modular"])[new] == 149.0


def test_a_new_latency_may_leave_its_place_on_the_front_to_another_detector() -> None:
    # POOR has 30 ms, of its own run.
    summary = summarize(*timed_together({MIDDLE: 31.0, FAST: 32.0}))

    assert latencies(summary.fronts["structural"]) == {POOR: 30.0, MIDDLE: 31.0, STRONG: 140.0}
    assert latencies([record for record in summary.records if record.trained])[FAST] == 32.0
    assert not summary.timed_together


def test_a_member_that_was_not_timed_with_the_others_changes_none_of_their_latencies() -> None:
    studies = timed_together({MIDDLE: 11.0})
    add_trial(studies[2], (145.0, 0.6), TrialState.COMPLETE, arch=POOR)
    summary = summarize(*studies)

    assert not summary.timed_together
    assert latencies(summary.fronts["structural"])[MIDDLE] == 11.0


@pytest.mark.parametrize(
    ("first", "last", "name"), [(0, 1, "structural"), (1, 3, "modular"), (0, 3, "structural and modular")]
)
def test_one_stage_alone_has_the_same_latencies_as_both(first: int, last: int, name: str) -> None:
    studies = timed_together({MIDDLE: 11.0, SLIM: 11.5})
    summary = summarize(*studies[first:last])

    assert (summary.study, " and ".join(summary.fronts)) == (name, name)
    assert summary.timed_together
    both = {(record.study, record.number): record.latency_ms for record in summarize(*studies).records}
    assert all(record.latency_ms == both[record.study, record.number] for record in summary.records)


def test_a_database_of_many_folders_calls_the_stages_by_the_same_names() -> None:
    studies = new_study(name="mine/structural"), new_study(name=f"mine/modular/{MIDDLE}")
    for number, study in enumerate(studies):
        add_trial(study, (1.0 + number, 0.5 + number / 4), TrialState.COMPLETE, arch=FAST)
    summary = summarize(*studies)

    assert (summary.study, list(summary.fronts)) == ("structural and modular", ["structural", "modular"])


def test_stage_2_without_a_trained_architecture_is_nothing_to_compare_with() -> None:
    begun = new_study(name=f"modular/{MIDDLE}")
    add_trial(begun, None, TrialState.RUNNING, arch=SLIM)
    summary = summarize(full_study(), begun)

    assert (summary.fronts["modular"], summary.hypervolumes["modular"]) == ([], 0.0)
    assert not summary.compares_stages


def test_trained_records_are_in_the_order_in_which_they_ended_those_of_stage_1_first() -> None:
    structural, *modular = new_study(), new_study(name=f"modular/{MIDDLE}"), new_study(name=f"modular/{STRONG}")
    for study, minutes in ((structural, (20, 10, 70)), (modular[0], (50, 30)), (modular[1], (40,))):
        for minute in minutes:
            add_trial(study, (1.0, 0.5), TrialState.COMPLETE, minute=minute, arch=named(str(minute)))
    add_trial(structural, None, TrialState.FAIL, minute=5, arch=FAST)

    in_order = summarize(structural, *modular).in_order
    assert [record.arch for record in in_order] == [named(minute) for minute in ("10", "20", "70", "30", "40", "50")]


def test_an_architecture_beyond_the_limits_is_counted_and_on_no_front() -> None:
    study = full_study()
    study.set_user_attr("limits", {"max_latency_ms": 100.0, "max_params": 1_000_000})
    summary = summarize(study)

    assert [record.arch for record in summary.front] == [FAST, POOR]  # MIDDLE is too large, STRONG too slow as well
    assert summary.counts["complete"] == 4
    assert summary.reference == pytest.approx((33.0, 0.0))


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (DEVICE, "Intel Xeon CPU @ 2.20GHz, 2 threads"),
        ({"kind": "cpu", "model": "M", "threads": 1}, "M, 1 thread"),
        ({"kind": "cuda", "model": "NVIDIA H100", "memory_mib": 80_000}, "NVIDIA H100"),
        ({"kind": "cpu", "model": "", "threads": 2}, "cpu, 2 threads"),
        ({}, "an unknown device"),
    ],
)
def test_device_name(device: dict[str, Any], name: str) -> None:
    study = new_study()
    study.set_user_attr("fingerprint", {"device": device})

    assert summarize(study).device_name == name


def test_baselines_have_a_front_and_a_hypervolume_of_their_own() -> None:
    studies = both_stages()
    add_trial(studies[0], (20.0, 0.1), TrialState.COMPLETE, arch=POOR, baseline=True)
    add_trial(studies[0], (100.0, 0.4), TrialState.COMPLETE, arch=SLIM, baseline=True)
    add_trial(studies[0], (12.25, 0.2), TrialState.COMPLETE, arch=MIDDLE, baseline=True, cached_from=0)
    summary = summarize(*studies)

    assert [record.arch for record in summary.baselines] == [MIDDLE, POOR, SLIM]
    assert latencies(summary.baseline_front) == {MIDDLE: 12.25, SLIM: 100.0}
    assert summary.baseline_hypervolume == pytest.approx(152.75 * 0.2 + 65.0 * 0.2)  # to the 165 ms of all


def test_without_a_baseline_their_hypervolume_is_nothing() -> None:
    summary = summarize(*both_stages()[1:])

    assert (summary.baselines, summary.baseline_front, summary.baseline_hypervolume) == ([], [], 0.0)


def test_a_baseline_beyond_the_limits_gains_nothing() -> None:
    study = full_study()
    study.set_user_attr("limits", {"max_latency_ms": 10.0})
    summary = summarize(study)

    assert [record.arch for record in summary.baselines] == [MIDDLE]
    assert (summary.baseline_front, summary.baseline_hypervolume) == ([], 0.0)


def test_the_latency_limits_are_those_of_all_stages_once_each() -> None:
    studies = both_stages()
    for study, limit in zip(studies, (30.0, 20.0, 30.0), strict=True):
        study.set_user_attr("limits", {"max_latency_ms": limit})

    assert summarize(*studies).max_latencies_ms == (20.0, 30.0)
    assert summarize(full_study()).max_latencies_ms == ()


CLASSES_80 = [f"class {number}" for number in range(80)]


@pytest.mark.parametrize(
    ("data", "data_root", "text"),
    [
        (
            {"train": {"images": 118_287}, "val": {"images": 5000}, "classes": CLASSES_80},
            "/data/coco",
            "coco, 118,287 training and 5,000 validation images, 80 classes",
        ),
        (
            {"train": {"images": 400}, "val": {"images": 120}, "classes": ["circle"]},
            "data",  # inside the study folder
            "400 training and 120 validation images, 1 class (circle)",
        ),
        ({"train": {"images": 400}}, "/data/mine/", "mine, 400 training images"),
        ("0f", None, ""),  # an older fingerprint
        (None, None, ""),
    ],
)
def test_the_data_is_described_as_far_as_the_study_knows_it(data: object, data_root: str | None, text: str) -> None:
    study = new_study()
    study.set_user_attr("fingerprint", {} if data is None else {"data": data})
    if data_root is not None:
        study.set_user_attr("data_root", data_root)

    assert describe_data(summarize(study)) == text


def test_a_summary_has_the_name_of_its_folder_if_it_is_told() -> None:
    assert (summarize(new_study(), name="mine").name, summarize(new_study()).name) == ("mine", "")


def test_stages_of_different_recipes_have_no_joint_front() -> None:
    alike, other = summarize(*with_recipes(5, 5, 5)), summarize(*with_recipes(5, 9, 9))

    assert (alike.apart, list(alike.fronts)) == (False, ["structural", "modular"])
    assert (other.apart, list(other.fronts)) == (True, ["modular"])
    assert {record.arch for record in alike.front} == {FAST, SLIM, STRONG, DEEP}
    assert {record.arch for record in other.front} == {SLIM, DEEP}
    assert [record.arch for record in other.in_order] == [SLIM, DEEP]
    assert other.hypervolumes == {"modular": alike.hypervolumes["modular"], "all": alike.hypervolumes["modular"]}
    assert (other.baselines, other.baseline_hypervolume) == ([], 0.0)
    numbers = [[(record.study, record.number) for record in each.records] for each in (alike, other)]
    assert numbers[0] == numbers[1], "all trials can be looked at"
    assert other.counts == alike.counts


def test_a_stage_alone_and_a_stage_2_that_has_trained_nothing_are_not_apart() -> None:
    studies = with_recipes(5, 9, 9)
    empty = new_study(name="modular/parent")
    empty.set_user_attr("fingerprint", {"recipe": {"train": {"epochs": 9}}})

    for shown, stage in ((studies[:1], "structural"), (studies[1:], "modular"), ([studies[0], empty], "structural")):
        summary = summarize(*shown)
        assert (summary.apart, list(summary.fronts)) == (False, [stage])
