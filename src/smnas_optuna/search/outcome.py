"""The end of a search."""

from __future__ import annotations

from dataclasses import dataclass

ENDLESS = 100_000
"""Budget of a search that time alone ends: more trainings than anybody has time for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """End of a search.

    Attributes:
        reason: Reason in words, for people.
        failed: True if the end is a failure.
        trained: Number of unique architectures that are trained by now.
        waits_for_others: True if other workers are at work on all that is left.
        time_up: True if it ended for lack of time.
    """

    reason: str
    failed: bool
    trained: int
    waits_for_others: bool = False
    time_up: bool = False
