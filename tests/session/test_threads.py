from __future__ import annotations

import pytest
import torch

from smnas_optuna.session import threads as threads_module
from smnas_optuna.session.threads import adopt_threads


@pytest.mark.parametrize(
    ("share", "measuring", "works", "measures"),
    [(None, None, 3, 3), (None, 2, 2, 2), (1, None, 1, 3), (1, 2, 1, 2), (1, 1_000_000, 1, 3)],
    ids=["alone", "the study's", "a share", "a share of a study", "more than cores"],
)
def test_a_worker_works_with_its_share_and_measures_with_the_studys_threads(
    monkeypatch: pytest.MonkeyPatch, share: int | None, measuring: int | None, works: int, measures: int
) -> None:
    monkeypatch.setattr(threads_module, "usable_cores", lambda: 4)
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    assert adopt_threads(share, measuring, {}) == measures
    assert taken == [works]


def test_the_users_own_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)

    assert adopt_threads(1, 2, {"OMP_NUM_THREADS": "7"}) == torch.get_num_threads()
    assert taken == []
