"""The nodes of a cluster: which can train, how many detectors at a time, and how they get the data."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.cluster.messages import Errand
from smnas_optuna.cluster.needs import Needs
from smnas_optuna.cluster.node import Facts, File, Node, other_versions
from smnas_optuna.duration import plural
from smnas_optuna.errors import DeviceError, first_line

BATCH_BYTES = 32 * 2**20
"""Bytes of the files that are sent to a node at once; a larger file goes alone."""
CHECK_S = 0.5
"""Interval at which whoever waits for the cluster looks whether to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A node that can train.

    Attributes:
        node_id: Ray's name of the node.
        name: Name for people: that of the machine, and the beginning of ``node_id``.
        places: Number of detectors that it trains at a time.
        data: Folder of the data there.
    """

    node_id: str
    name: str
    places: int
    data: Path


class Nodes:
    """The nodes of a cluster, each asked once whether it can train.

    Args:
        ray: The module, connected.
        errand: What all trainings have in common.
        needs: What a training takes.
        note: Receives a line for each node.
        check: Called while a node is waited for; may raise to stop.
    """

    def __init__(
        self, ray: Any, errand: Errand, needs: Needs, note: Callable[[str], None], check: Callable[[], None]
    ) -> None:
        self._ray, self._errand, self._needs, self._note, self._check = ray, errand, needs, note, check
        self._asked = dict[str, Ready | None]()
        self._listing = threading.Lock()
        self._listed: list[File] | None = None

    def ready(self) -> list[Ready]:
        """Return the nodes that can train now; those that are new are asked, and get the data if they lack it.

        Raises:
            DeviceError: If a node has other versions, while no node could train yet: nothing is trained by then.
        """
        alive = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        first = not any(self._asked.values())
        places = {node_id: self._needs.places_on(resources) for node_id, resources in alive.items()}
        new = [node_id for node_id in alive if node_id not in self._asked and places[node_id]]
        if new:  # all at once: to read the data may take minutes
            with ThreadPoolExecutor(max_workers=len(new)) as threads:
                asked = threads.map(lambda node_id: self._ask(node_id, places[node_id], refuse=first), new)
                self._asked.update(zip(new, asked, strict=True))
        return [each for node_id, each in self._asked.items() if each is not None and node_id in alive]

    def is_alive(self, node_id: str) -> bool:
        """Return whether the cluster still counts on a node."""
        return any(node["NodeID"] == node_id and node["Alive"] for node in self._ray.nodes())

    def refuse(self, node: Ready, why: str) -> None:
        """Use a node no more."""
        self._note(f"node {node.name} is not used any more: {why}")
        self._asked[node.node_id] = None

    def wait(self, reference: Any, check: Callable[[], None] | None = None) -> Any:
        """Return the result of a call, and look meanwhile whether to stop."""
        while True:
            (check or self._check)()
            try:
                return self._ray.get(reference, timeout=CHECK_S)
            except self._ray.exceptions.GetTimeoutError:
                continue

    def pinned(self, cls: type, node_id: str, *arguments: Any, **options: Any) -> Any:
        """Return an actor of ``cls`` on a node."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
        options = {"num_cpus": 0, "max_restarts": 0, "scheduling_strategy": strategy, **options}
        return self._ray.remote(cls).options(**options).remote(*arguments)

    def end(self, actor: Any) -> None:
        """End an actor."""
        self._ray.kill(actor)

    def _ask(self, node_id: str, places: int, *, refuse: bool) -> Ready | None:
        node, facts = self.pinned(Node, node_id, self._errand), Facts(host="that has not answered")
        try:
            facts = self.wait(node.facts.remote())
            self._check_versions(facts, refuse=refuse)
            data = facts.data or self._copy_to(node, facts.host)
            problem = self.wait(node.check.remote(data))
            if problem is not None and not facts.named and facts.data is not None:
                data = self._copy_to(node, facts.host)  # another folder has that name there
                problem = self.wait(node.check.remote(data))
        except _OtherVersionsError as error:
            problem, data = str(error), Path()
        except self._ray.exceptions.RayError as error:
            problem, data = first_line(error), Path()
        finally:
            self.end(node)
        if problem is not None:
            self._note(f"node {_name(node_id, facts.host)} is not used: {problem}")
            return None
        name = _name(node_id, facts.host)
        self._note(f"node {name}: trains {places} {plural(places, 'detector')} at a time, data in {data}")
        return Ready(node_id=node_id, name=name, places=places, data=data)

    def _check_versions(self, facts: Facts, *, refuse: bool) -> None:
        other = other_versions(facts.versions, self._errand.versions)
        if not other:
            return
        if refuse:
            raise DeviceError(
                f"node {facts.host} cannot train for this study: it has {', '.join(other)}",
                fix="install the same versions on all nodes, or take it out of the cluster",
            )
        raise _OtherVersionsError(f"it has {', '.join(other)}")

    def _copy_to(self, node: Any, host: str) -> Path:
        """Send the data to a node, as far as its copy lacks some; return the folder of the copy."""
        missing = set(self.wait(node.missing.remote(self._files)))
        if missing:
            size = sum(size for path, size, _ in self._files if path in missing)
            files = f"{len(missing)} {plural(len(missing), 'file')}"
            self._note(f"node {host}: gets {files} of the data ({size / 2**20:,.1f} MiB)")
        for batch in _batches([each for each in self._files if each[0] in missing]):
            self.wait(node.store.remote({path: (self._errand.data / path).read_bytes() for path in batch}))
        copy: Path = self.wait(node.copy.remote())
        return copy

    @property
    def _files(self) -> list[File]:
        with self._listing:
            if self._listed is None:
                self._listed = list_files(self._errand.data)
            return self._listed


def _name(node_id: str, host: str) -> str:
    return f"{host} ({node_id[:6]})"


def list_files(root: Path) -> list[File]:
    """Return all files of a data folder, but for hidden ones; a link to a file counts as one."""
    found = list[File]()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file():
                content = path.read_bytes()
                found.append((str(path.relative_to(root)), len(content), hashlib.sha256(content).hexdigest()))
    return found


def _batches(files: Sequence[File]) -> Iterator[list[str]]:
    batch, size = list[str](), 0
    for path, length, _ in files:
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield batch


class _OtherVersionsError(Exception):
    """A node that came later has other versions."""
