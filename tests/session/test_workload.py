from __future__ import annotations

import pytest

from smnas_optuna.session.workload import REPORT_SHARE, Workers, finish_s

START_S = 8.0
REPORT_S = REPORT_SHARE * START_S


@pytest.mark.parametrize(
    ("trainings_s", "workers", "seconds"),
    [
        ([], 1, 0.0),
        ([10.0], 1, 10 + REPORT_S),
        ([10.0, 20.0, 30.0], 1, 60 + REPORT_S),
        ([10.0, 10.0, 10.0], 2, 20 + REPORT_S),
        ([10.0, 2.0], 2, 10 + REPORT_S),
        ([10.0, 10.0, 10.0, 10.0], 2, START_S + 20 + REPORT_S),
        ([1.0] * 1000, 4, 3 * START_S / 4 + 250 + REPORT_S),
    ],
)
def test_trainings_go_to_the_worker_that_is_free_first(trainings_s: list[float], workers: int, seconds: float) -> None:
    assert finish_s(trainings_s, Workers(count=workers, start_s=START_S)) == seconds


def test_before_the_first_worker_has_started_its_start_counts_too() -> None:
    later = Workers(count=2, start_s=START_S, started=False)

    assert later.free_at_s == [START_S, 2 * START_S]
    assert finish_s([10.0], later) == START_S + 10 + REPORT_S


def test_measurements_are_one_after_the_other_however_many_workers_there_are() -> None:
    plain, measured = (
        [finish_s([10.0] * 8, Workers(count=count, start_s=0.0), measuring_s=measuring_s) for count in (1, 2, 8)]
        for measuring_s in (0.0, 24.0)
    )

    assert plain == [80, 40, 10]
    assert measured == [104, 64, 34]


def test_each_worker_decodes_the_images_for_itself() -> None:
    assert finish_s([10.0] * 4, Workers(count=2, start_s=0.0), once_s=3.0) == 23
