from __future__ import annotations

import pytest
import torch

from smnas_optuna.session import threads as threads_module
from smnas_optuna.session.threads import adopt_threads


@pytest.mark.parametrize(
    ("share", "measuring", "cores", "works", "measures"),
    [
        (None, None, 4, 3, 3),
        (None, 2, 4, 2, 2),
        (1, None, 4, 1, 3),
        (1, 2, 4, 1, 2),
        (1, 1_000_000, 4, 1, 3),
        (None, None, 2, 2, 2),
        (1, 3, 2, 1, 2),
        (None, 1, 2, 1, 1),
    ],
    ids=[
        "alone",
        "the study's",
        "a share",
        "a share of a study",
        "more than cores",
        "a quota",
        "more than the quota",
        "fewer than the quota",
    ],
)
def test_a_worker_works_with_its_share_and_measures_with_the_studys_threads(
    monkeypatch: pytest.MonkeyPatch, share: int | None, measuring: int | None, cores: int, works: int, measures: int
) -> None:
    monkeypatch.setattr(threads_module, "usable_cores", lambda: cores)
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    assert adopt_threads(share, measuring, {}) == measures
    assert taken == [works]


def test_a_study_that_measured_with_more_threads_than_are_allowed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads_module, "cores_in_words", lambda: "2 of 8 cores (a CPU quota of 2.5)")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    notes: list[str] = []

    adopt_threads(1, 2, {}, notes.append)
    assert notes == []
    adopt_threads(1, 8, {}, notes.append)
    assert notes == [
        "warning: the study has measured with 8 CPU threads, and this process may use 2 of 8 cores (a CPU quota of "
        "2.5); OMP_NUM_THREADS=8 keeps the number nevertheless"
    ]


def test_the_users_own_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)

    assert adopt_threads(1, 2, {"OMP_NUM_THREADS": "7"}) == torch.get_num_threads()
    assert taken == []
