from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.cluster import examine
from smnas_optuna.cluster.examine import NO_ERRAND, examine_cluster
from smnas_optuna.cluster.node import Facts, Node, versions_here
from smnas_optuna.doctor import Finding
from smnas_optuna.workers.interrupt import StopRequest

from .fake_ray import FakeRay, RayError


class FakeNode(Node):
    def __init__(self, host: str, changes: dict[str, Any]) -> None:
        super().__init__(NO_ERRAND)
        self._host, self._changes = host, changes

    def facts(self) -> Facts:
        if "error" in self._changes:
            raise RayError(self._changes["error"])
        return replace(super().facts(), host=self._host, **self._changes)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay({})

    @contextmanager
    def connected(address: str) -> Iterator[FakeRay]:
        assert address == "auto"
        yield ray

    monkeypatch.setattr(examine, "connected", connected)
    return ray


def examined(ray: FakeRay, **changes: dict[str, Any]) -> list[Finding]:
    ray.change = lambda name: FakeNode(f"host-{name}", changes.get(name, {}))
    found = list(examine_cluster("auto", None, StopRequest()))
    assert all(actor.killed for actor in ray.actors)
    return found


def test_each_node_is_shown_with_what_it_has_and_trains(ray: FakeRay) -> None:
    ray.resources = {"a": {"CPU": 8.0, "GPU": 2.0}, "b": {"CPU": 4.0}, "c": {}}
    assert [(each.level, each.what) for each in examined(ray)] == [
        ("fine", "node host-a (a): CPU 8, GPU 2; trains 2 detectors at a time"),
        ("fine", "node host-b (b): CPU 4; trains nothing"),
        ("fine", "node host-c (c): no CPU; trains nothing"),
    ]


def test_other_versions_are_a_fault_and_a_dead_node_a_warning(ray: FakeRay) -> None:
    ray.resources, ray.dead = {"a": {"CPU": 1.0}, "b": {"CPU": 1.0}, "c": {"CPU": 1.0}}, {"b"}
    old = {"versions": {**versions_here(), "torch": "1.0"}}
    first, second, third = examined(ray, a=old, c={"error": "gone\nand more"})
    assert first.level == "fault"
    assert "; it has torch 1.0 instead of " in first.what
    assert (second.level, second.what) == ("warning", "node b of the cluster is dead")
    assert (third.level, third.what) == ("fault", "node c does not answer: gone")


def test_data_that_a_node_has_is_shown(ray: FakeRay, tmp_path: Path) -> None:
    ray.resources = {"a": {"CPU": 1.0}}
    (found,) = examined(ray, a={"data": tmp_path})
    assert found.what.endswith(f"trains 1 detector at a time; data in {tmp_path}")
