from __future__ import annotations

import pytest
import torch

from smnas_optuna.search.placement import adopt_threads, share_of_cores, usable_cores, visible_gpus, worker_environment


def test_workers_take_turns_with_the_gpus_and_keep_the_rest_of_the_environment() -> None:
    environment = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3,5"}

    seen = [worker_environment(environment, slot, ["3", "5"]) for slot in range(3)]

    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen] == ["3", "5", "3"]
    assert {each["PATH"] for each in seen} == {"/bin"}
    assert worker_environment(environment, 1, []) == environment


def test_several_workers_on_a_cpu_share_its_cores() -> None:
    assert share_of_cores(1) is None
    assert share_of_cores(2) == max(1, usable_cores() // 2)
    assert share_of_cores(10_000) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_none_is_visible() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []


@pytest.mark.parametrize(
    ("threads", "environment", "adopted"),
    [
        (1, {}, True),
        (None, {}, False),
        (1, {"OMP_NUM_THREADS": "7"}, False),
        (1_000_000, {}, False),
    ],
    ids=["a number", "none", "the user's own", "more than cores"],
)
def test_the_studys_threads_are_adopted_where_that_can_be(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, environment: dict[str, str], adopted: bool
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)

    adopt_threads(threads, environment)

    assert taken == ([threads] if adopted else [])
