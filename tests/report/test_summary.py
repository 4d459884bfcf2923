from __future__ import annotations

from typing import Any

import pytest

from smnas_optuna.report.summary import summarize

from .report_studies import DEVICE, full_study, new_study


def test_the_front_is_in_the_order_of_latency_and_leaves_out_dominated_and_cached_trials() -> None:
    summary = summarize(full_study())

    assert [record.number for record in summary.front] == [2, 0, 3]
    assert [record.number for record in summary.records] == list(range(8))
    assert (summary.study, summary.device, summary.versions) == ("structural", DEVICE, {"torch": "2.14.0"})


def test_every_trial_is_counted_once() -> None:
    summary = summarize(full_study())

    assert summary.counts == {"complete": 4, "pruned": 1, "failed": 1, "cached": 1, "running": 1}
    assert sum(summary.counts.values()) == len(summary.records)


def test_a_study_without_trials_and_attributes_is_no_error() -> None:
    summary = summarize(new_study())

    assert (summary.front, summary.records, summary.device, summary.versions) == ([], [], {}, {})
    assert set(summary.counts.values()) == {0}


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
