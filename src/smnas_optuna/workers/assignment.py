"""The work of one supervised worker, handed to its process as one JSON value."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smnas_optuna.workers.placement import Placement
from smnas_optuna.workers.supervisor import Launch

Task = Literal["search", "verify"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Everything that a worker must know to start.

    Attributes:
        task: The kind of work.
        request: What the user asked for, as JSON values; the same in each worker.
        slot: Number of this worker among those that start together, from 0.
        workers: That start together, and write to one terminal.
        lead: Whether it starts alone: it creates what is missing, and reports for all.
        threads: Of a CPU, its share; None for torch's default.
    """

    task: Task
    request: Mapping[str, Any]
    slot: int = 0
    workers: int = 1
    lead: bool = False
    threads: int | None = None

    def command(self) -> list[str]:
        """The command line of its process."""
        return [sys.executable, "-m", "smnas_optuna.cli", "work", self.to_json()]

    def to_json(self) -> str:
        """The assignment as text; see :meth:`from_json`."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The assignment that :meth:`to_json` wrote."""
        return cls(**json.loads(text))


def launcher(task: Task, request: Mapping[str, Any], placement: Placement) -> Callable[[int, bool], Launch]:
    """How the supervisor starts each worker, by its slot and whether it leads."""

    def launch(slot: int, lead: bool) -> Launch:
        assignment = Assignment(
            task=task,
            request=request,
            slot=slot,
            workers=placement.workers,
            lead=lead,
            threads=placement.threads,
        )
        return Launch(command=assignment.command(), environment=placement.environment(os.environ, slot))

    return launch
