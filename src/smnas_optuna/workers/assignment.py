"""The work of one supervised worker, handed to its process as one JSON value."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smnas_optuna.workers.launch import Launch
from smnas_optuna.workers.placement import Placement

Task = Literal["search", "retime", "verify", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The task, request and place of one worker: all that it needs to start.

    Attributes:
        task: Kind of work.
        request: The user's request, as JSON values; the same in each worker.
        slot: Number of this worker among those that start together, from 0.
        workers: Number of workers that start together and write to one terminal.
        lead: True if it starts alone: it creates what is missing, and reports for all.
        threads: Its share of the CPU threads; None for torch's default.
    """

    task: Task
    request: Mapping[str, Any]
    slot: int = 0
    workers: int = 1
    lead: bool = False
    threads: int | None = None

    def command(self) -> list[str]:
        """Return the command line of the worker's process."""
        return [sys.executable, "-m", "smnas_optuna.cli", "work", self.to_json()]

    def to_json(self) -> str:
        """Return the assignment as text; see :meth:`from_json`."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """Return the assignment that :meth:`to_json` wrote."""
        return cls(**json.loads(text))


def launcher(task: Task, request: Mapping[str, Any], placement: Placement) -> Callable[[int, bool], Launch]:
    """Return the function with which the supervisor starts each worker, given its slot and whether it leads."""

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
