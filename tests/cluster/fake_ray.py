"""Ray's calls that the cluster room makes, done in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class GetTimeoutError(RayError):
    pass


class ActorUnavailableError(RayError):
    pass


class RayActorError(RayError):
    pass


class ActorUnschedulableError(RayError):
    pass


class RayTaskError(RayError):
    pass


class FakeActor:
    def __init__(self, made: Any) -> None:
        self.made, self.killed = made, False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.made, name)
        return SimpleNamespace(remote=lambda *arguments: lambda: method(*arguments))


@dataclass
class FakeRay:
    """A cluster of nodes: name -> resources; what a node makes of any class can be changed."""

    resources: dict[str, Mapping[str, float]]
    change: Callable[[str], Any] | None = None
    dead: set[str] = field(default_factory=set)
    actors: list[FakeActor] = field(default_factory=list)

    exceptions = SimpleNamespace(
        **{
            each.__name__: each
            for each in (
                RayError,
                GetTimeoutError,
                ActorUnavailableError,
                RayActorError,
                ActorUnschedulableError,
                RayTaskError,
            )
        }
    )
    util = SimpleNamespace(scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=SimpleNamespace))

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "Alive": name not in self.dead, "Resources": dict(resources)}
            for name, resources in self.resources.items()
        ]

    def remote(self, cls: type) -> Any:
        def options(**options: Any) -> Any:
            def make(*arguments: Any) -> FakeActor:
                node = options["scheduling_strategy"].node_id
                actor = FakeActor(cls(*arguments) if self.change is None else self.change(node))
                self.actors.append(actor)
                return actor

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def get(self, call: Callable[[], Any], timeout: float) -> Any:
        assert timeout > 0
        return call()

    def kill(self, actor: FakeActor) -> None:
        actor.killed = True
