"""The trainers of a cluster: as many as its nodes have places, each lent to one training at a time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smnas_optuna.cluster.messages import Errand
from smnas_optuna.cluster.needs import Needs
from smnas_optuna.cluster.nodes import CHECK_S, Nodes, Ready
from smnas_optuna.cluster.trainer import Trainer


@dataclass(eq=False, kw_only=True, slots=True)
class Lent:
    """A trainer that is lent.

    Attributes:
        actor: Handle of its process.
        node: Its node.
    """

    actor: Any
    node: Ready


class Pool:
    """Lends trainers.

    A trainer keeps its process, and with it the decoded images, for the next training. One that died is not lent again.

    Args:
        ray: The module, connected.
        nodes: The nodes.
        errand: What all trainings have in common.
        needs: What a training takes.
    """

    def __init__(self, ray: Any, nodes: Nodes, errand: Errand, needs: Needs) -> None:
        self._ray, self.nodes, self._errand, self._needs = ray, nodes, errand, needs
        self._ready: list[Ready] = []
        self._idle: list[Lent] = []
        self._used = Counter[str]()  # trainers that exist, by node
        self._changed = threading.Condition()

    @property
    def places(self) -> int:
        """Number of trainings that fit into the cluster, as far as it is known."""
        return sum(node.places for node in self._ready)

    @property
    def threads(self) -> int | None:
        """CPU threads of a trainer; None on a GPU."""
        return None if self._needs.gpus else max(1, int(self._needs.cpus))

    def look(self) -> None:
        """Look which nodes there are now; trainers of those that are gone are forgotten."""
        ready = self.nodes.ready()
        alive = {node.node_id for node in ready}
        with self._changed:
            self._ready = ready
            self._idle = [each for each in self._idle if each.node.node_id in alive]
            for node_id in self._used.keys() - alive:
                del self._used[node_id]
            self._changed.notify_all()

    @property
    def has_idle(self) -> bool:
        """True if a trainer waits for a training."""
        return bool(self._idle)

    def take(self, check: Callable[[], None]) -> Lent:
        """Return a trainer that is free, or a new one; wait for a place.

        Args:
            check: Called while it waits; may raise to stop.
        """
        while True:
            check()
            with self._changed:
                if self._idle:
                    return self._idle.pop()
                node = next((each for each in self._ready if self._used[each.node_id] < each.places), None)
                if node is None:
                    self._changed.wait(CHECK_S)
                    continue
                self._used[node.node_id] += 1
            return Lent(actor=self._start(node), node=node)

    def give_back(self, trainer: Lent) -> None:
        """Take a trainer back that is ready for another training."""
        with self._changed:
            self._idle.append(trainer)
            self._changed.notify_all()

    def bury(self, trainer: Lent) -> None:
        """End a trainer that is of no use any more; its place is free."""
        self._ray.kill(trainer.actor)
        with self._changed:
            if trainer.node.node_id in self._used:
                self._used[trainer.node.node_id] -= 1
            self._changed.notify_all()

    def _start(self, node: Ready) -> Any:
        return self.nodes.pinned(
            Trainer,
            node.node_id,
            self._errand,
            node.data,
            self.threads,
            num_cpus=self._needs.cpus,
            num_gpus=self._needs.gpus,
            max_concurrency=4,
        )
