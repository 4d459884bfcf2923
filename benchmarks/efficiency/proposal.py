"""What a replayed search asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """An architecture that a sampler asked for and no cache answered: it was trained, or pruned."""

    arch: str
    trained: bool


Run = list[Proposal]
