from __future__ import annotations

import pytest
import torch

from smnas_optuna.workers import placement as placement_module
from smnas_optuna.workers.placement import (
    CPU_WORKERS,
    Placement,
    place_workers,
    usable_cores,
    visible_gpus,
)


def test_workers_take_turns_with_the_gpus_and_keep_the_rest_of_the_environment() -> None:
    environment = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3,5"}
    placement = Placement(workers=3, gpus=["3", "5"])

    seen = [placement.environment(environment, slot) for slot in range(3)]

    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen] == ["3", "5", "3"]
    assert {each["PATH"] for each in seen} == {"/bin"}
    assert placement.threads is None
    assert Placement(workers=3).environment(environment, 1) == environment


def test_several_workers_on_a_cpu_share_its_cores() -> None:
    assert Placement(workers=1).threads is None
    assert Placement(workers=2).threads == max(1, usable_cores() // 2)
    assert Placement(workers=10_000).threads == 1


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (64, CPU_WORKERS)])
def test_by_default_there_is_a_worker_for_each_core_up_to_a_few(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr(placement_module, "usable_cores", lambda: cores)

    assert place_workers(None, "cpu", {}) == Placement(workers=workers, gpus=[])
    assert place_workers(7, "cpu", {}) == Placement(workers=7, gpus=[])


def test_by_default_there_is_a_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "visible_gpus", lambda _: ["0", "1", "2"])

    assert place_workers(None, "auto", {}) == Placement(workers=3, gpus=["0", "1", "2"])
    assert place_workers(None, "cpu", {}).gpus == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_none_is_visible() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []
