"""A Ray cluster on this machine, each node with a cache of its own."""

from __future__ import annotations

import importlib
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STORE = 80 * 2**20
"""Bytes of a node's object store."""


class LocalCluster:
    """A head that trains nothing, and nodes with one place each.

    Args:
        folder: Gets the caches of the nodes.
        client_port: Port for drivers that are no nodes; None for no such port.
    """

    def __init__(self, folder: Path, client_port: int | None = None) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.update(RAY_health_check_period_ms="500", RAY_health_check_failure_threshold="4")  # dead after 2 s
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # by default other tests go first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._utils: Any = importlib.import_module("ray.cluster_utils")
            head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
            head |= {} if client_port is None else {"ray_client_server_port": client_port}
            self._cluster = self._utils.Cluster(initialize_head=True, head_node_args=head)
        self._folder, self._added = folder, 0

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self, cpus: int = 1, **variables: str) -> Any:
        self._added += 1
        variables = {"SMNAS_OPTUNA_CACHE": str(self._folder / f"node{self._added}"), **variables}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._cluster.add_node(num_cpus=cpus, object_store_memory=STORE, env_vars=variables)

    def cache_of(self, number: int) -> Path:
        """Cache of the node that was added as number ``number``, from 1."""
        return self._folder / f"node{number}"

    def kill_node(self, node: Any) -> None:
        """Kill all processes of a node, as a power cut does."""
        for kind, processes in list(node.all_processes.items()):
            for each in processes:
                with suppress(ProcessLookupError):
                    os.kill(each.process.pid, signal.SIGKILL)
            assert kind
        self._cluster.worker_nodes.discard(node)

    def trainers(self) -> set[int]:
        """The running processes of trainers on these nodes; tests beside this one have others."""
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_trainer = (process / "cmdline").read_bytes().startswith(b"ray::Trainer")
                if (
                    is_trainer
                    and os.fsencode(f"SMNAS_OPTUNA_CACHE={self._folder}/") in (process / "environ").read_bytes()
                ):
                    found.add(int(process.name))
        return found

    def node_of(self, trainer: int) -> Any:
        """The node whose raylet started the process of a trainer."""
        parent = int(Path(f"/proc/{trainer}/stat").read_text().rpartition(")")[2].split()[1])
        processes = {
            each.process.pid: node
            for node in self._cluster.worker_nodes
            for group in node.all_processes.values()
            for each in group
        }
        return processes[parent]

    def stop(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._cluster.shutdown()


@contextmanager
def local_cluster(folder: Path, nodes: int, client_port: int | None = None) -> Iterator[LocalCluster]:
    cluster = LocalCluster(folder, client_port)
    try:
        for _ in range(nodes):
            cluster.add_node()
        yield cluster
    finally:
        cluster.stop()
