from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.cluster.messages import Errand
from smnas_optuna.cluster.needs import Needs, needs_of, places_of
from smnas_optuna.cluster.node import DATA, Facts, Node, other_versions, versions_here
from smnas_optuna.cluster.nodes import Nodes, list_files
from smnas_optuna.cluster.pool import Pool
from smnas_optuna.config import RaySettings
from smnas_optuna.errors import DataError, DeviceError
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .fake_ray import FakeRay, RayError

ONE_CPU = Needs(gpus=0, cpus=1)


def errand_of(data: Path) -> Errand:
    return Errand(
        study="s", study_file="", stage="structural", content="c" * 40, test=None, data=data, versions=versions_here()
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / ".hidden").write_text("x")
    (folder / "train.json").write_text("{}")
    for number in range(3):
        (folder / "images" / f"{number}.png").write_bytes(bytes([number]) * 1000)
    return folder


class FakeNode(Node):
    """A node whose data is as the test says."""

    def __init__(self, errand: Errand, host: str, problems: dict[Path, str], facts: dict[str, Any]) -> None:
        super().__init__(errand)
        self._host, self._problems, self._changed = host, problems, facts

    def facts(self) -> Facts:
        return replace(super().facts(), host=self._host, **self._changed)

    def check(self, data: Path) -> str | None:
        return self._problems.get(data)


def make_nodes(
    ray: FakeRay, errand: Errand, *, problems: dict[Path, str] | None = None, **facts: dict[str, Any]
) -> tuple[Nodes, list[str]]:
    notes = list[str]()
    ray.change = lambda name: FakeNode(errand, name, problems or {}, facts.get(name, {}))
    return Nodes(ray, errand, ONE_CPU, notes.append, lambda: None), notes


@pytest.mark.parametrize(
    ("needs", "resources", "places"),
    [
        (Needs(gpus=0, cpus=1), {"CPU": 8.0}, 8),
        (Needs(gpus=0, cpus=3), {"CPU": 8.0}, 2),
        (Needs(gpus=1, cpus=1), {"CPU": 8.0}, 0),
        (Needs(gpus=1, cpus=1), {"CPU": 8.0, "GPU": 4.0}, 4),
        (Needs(gpus=0.5, cpus=4), {"CPU": 12.0, "GPU": 4.0}, 3),
        (Needs(gpus=0.1, cpus=0.01), {"CPU": 1.0, "GPU": 0.3}, 3),
        (Needs(gpus=0.6, cpus=1), {"CPU": 8.0, "GPU": 4.0}, 4),
        (Needs(gpus=0.3, cpus=1), {"CPU": 64.0, "GPU": 8.0}, 24),
        (Needs(gpus=2, cpus=1), {"CPU": 8.0, "GPU": 5.0}, 2),
        (Needs(gpus=0, cpus=1), {}, 0),
    ],
)
def test_as_many_trainings_fit_as_the_scarcest_resource_allows(
    needs: Needs, resources: dict[str, float], places: int
) -> None:
    assert needs.places_on(resources) == places


def test_a_training_takes_a_gpu_where_a_living_node_has_one() -> None:
    ray = FakeRay({"a": {"CPU": 2.0}, "b": {"CPU": 2.0, "GPU": 1.0}})
    assert needs_of(ray, RaySettings()) == Needs(gpus=1, cpus=1)
    assert places_of(ray, needs_of(ray, RaySettings())) == 1
    assert needs_of(ray, RaySettings(gpus=0, cpus=2)) == Needs(gpus=0, cpus=2)
    ray.dead.add("b")
    assert needs_of(ray, RaySettings()) == ONE_CPU


def test_patches_of_python_and_builds_of_torch_do_not_count() -> None:
    here = {**versions_here(), "python": "3.11.4", "torch": "2.11.0+cpu", "torchvision": "0.26.0"}
    assert other_versions({**here, "python": "3.11.9", "torch": "2.11.0+cu128", "cuda": "12.8"}, here) == []
    assert other_versions({**here, "python": "3.12.4", "torch": "2.12.0"}, here) == [
        "python 3.12.4 instead of 3.11.4",
        "torch 2.12.0 instead of 2.11.0+cpu",
    ]
    assert other_versions({}, here)[0] == "smnas_optuna none instead of 0.1.0"


def test_another_commit_of_a_checkout_is_another_version() -> None:
    here = versions_here()
    changed = {name: "01234567" if name == "code of smnas_optuna" else value for name, value in here.items()}

    (other,) = other_versions(changed, here)

    assert re.fullmatch("code of smnas_optuna 01234567 instead of [0-9a-f]{8}", other)


def test_a_node_with_other_versions_is_refused_before_anything_is_trained_and_not_used_later(data: Path) -> None:
    ray, old = FakeRay({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}}), {"versions": {**versions_here(), "torch": "1.0"}}
    nodes, _ = make_nodes(ray, errand_of(data), b=old)
    with pytest.raises(DeviceError) as error:
        nodes.ready()
    assert "node b cannot train for this study: it has torch 1.0 instead of " in str(error.value)

    ray.resources.pop("b")
    nodes, notes = make_nodes(ray, errand_of(data), b=old)
    assert [each.node_id for each in nodes.ready()] == ["a"]
    ray.resources["b"] = {"CPU": 1.0}
    assert [each.node_id for each in nodes.ready()] == ["a"]
    assert notes[-1].startswith("node b (b) is not used: it has torch 1.0 instead of ")
    assert len(ray.actors) == 4  # each once by each asker
    assert all(actor.killed for actor in ray.actors)


def test_data_is_taken_where_it_lies_or_copied_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, errand = FakeRay({"a": {"CPU": 2.0}}), errand_of(data)
    nodes, notes = make_nodes(ray, errand)
    assert [each.data for each in nodes.ready()] == [data]
    assert notes == [f"node a (a): trains 2 detectors at a time, data in {data}"]

    nodes, notes = make_nodes(ray, errand, a={"data": None})
    (ready,) = nodes.ready()
    assert ready.data != data
    assert list_files(ready.data) == list_files(data)
    assert notes[0] == "node a: gets 4 files of the data (0.0 MiB)"

    (ready.data / "images" / "1.png").write_bytes(b"damaged")
    nodes, notes = make_nodes(ray, errand, a={"data": None})
    (ready,) = nodes.ready()
    assert notes[0] == "node a: gets 1 file of the data (0.0 MiB)"
    assert list_files(ready.data) == list_files(data)

    nodes, notes = make_nodes(ray, errand, a={"data": None})
    assert [each.data for each in nodes.ready()] == [ready.data]
    assert len(notes) == 1


def test_a_folder_of_the_same_name_with_other_data_is_left_alone_and_one_that_is_named_refused(data: Path) -> None:
    ray, errand, problems = FakeRay({"a": {"CPU": 1.0}}), errand_of(data), {data: "has other data"}
    nodes, _ = make_nodes(ray, errand, problems=problems)
    assert [each.data != data for each in nodes.ready()] == [True]

    nodes, notes = make_nodes(ray, errand, problems=problems, a={"named": True})
    assert nodes.ready() == []
    assert notes == ["node a (a) is not used: has other data"]


def test_a_node_names_its_data_in_its_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA, str(data / "images"))
    facts = Node(errand_of(data)).facts()
    assert (facts.data, facts.named) == (data / "images", True)
    monkeypatch.delenv(DATA)
    assert Node(errand_of(data / "gone")).facts().data is None


def test_a_file_that_leads_out_of_the_folder_is_refused(data: Path) -> None:
    node = Node(errand_of(data))
    with pytest.raises(DataError, match="leads out of the data folder"):
        node.store({"../../x": b""})


def test_what_a_node_cannot_answer_is_noted(data: Path) -> None:
    class Broken(FakeNode):
        def facts(self) -> Facts:
            raise RayError("the node is gone\nfor ever")

    ray = FakeRay({"abcdefgh": {"CPU": 1.0}})
    nodes, notes = make_nodes(ray, errand_of(data))
    ray.change = lambda name: Broken(errand_of(data), name, {}, {})
    assert nodes.ready() == []
    assert notes == ["node that has not answered (abcdef) is not used: the node is gone"]


def test_a_linked_image_is_sent_and_what_is_hidden_is_not(data: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(b"1")
    (data / "images" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (data / "images" / "broken.png").symlink_to(tmp_path / "gone.png")
    assert [name for name, *_ in list_files(data)] == [
        "train.json",
        *(os.path.join("images", name) for name in ("0.png", "1.png", "2.png", "link.png")),  # noqa: PTH118
    ]


def test_a_pool_lends_each_place_once_and_forgets_dead_nodes(data: Path) -> None:
    ray, errand = FakeRay({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}}), errand_of(data)
    nodes, _ = make_nodes(ray, errand)
    pool = Pool(ray, nodes, errand, ONE_CPU)
    pool.look()
    ray.change = str
    assert pool.places == 2
    first, second = pool.take(lambda: None), pool.take(lambda: None)
    assert {first.node.node_id, second.node.node_id} == {"a", "b"}
    stop = StopRequest()
    stop.ask(15)
    with pytest.raises(Interrupted):
        pool.take(stop.check)

    pool.give_back(first)
    assert pool.take(lambda: None) is first  # its process, with all that it has loaded
    pool.bury(first)
    assert pool.take(lambda: None).node.node_id == first.node.node_id

    pool.give_back(second)
    ray.dead.add(second.node.node_id)
    pool.look()
    assert pool.places == 1
    with pytest.raises(Interrupted):
        pool.take(_after(3, stop))


def _after(count: int, stop: StopRequest) -> Any:
    left = [count]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            stop.check()

    return check
