"""The end of a phase of a budget in hours, as all of its workers know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """Ends of a phase and of the whole budget, in seconds since 1970 by the clock of the machine that began the phase.

    Workers of one machine agree on it. A worker on another machine goes by its own clock, so both must be set alike.

    Attributes:
        at: End of the phase: no training is begun that is expected to end later.
        latest: Time at which what still runs is stopped; its checkpoint is kept.
        end: End of the budget.
        total_s: Seconds of the whole budget.
    """

    at: float
    latest: float
    end: float
    total_s: float

    @classmethod
    def from_json(cls, values: Mapping[str, float] | None) -> Deadline | None:
        """Return the deadline of JSON values that ``dataclasses.asdict`` gave; None for None."""
        return None if values is None else cls(**values)

    def share_done(self, now: float) -> float:
        """Return the share of the budget that is spent at ``now``, in [0, 1]."""
        return min(1.0, max(0.0, 1 - (self.end - now) / self.total_s))

    def in_words(self, now: float) -> str:
        """Return the share that is done, and the end by the clock: ``37 % · ends about 16:40``."""
        return f"{100 * self.share_done(now):.0f} % · ends about {clock_time(self.end, now)}"


def clock_time(at: float, now: float) -> str:
    """Return the local time ``at``, with the day of the week if it is another day than ``now``: ``Tue 06:40``."""
    there, here = datetime.fromtimestamp(at), datetime.fromtimestamp(now)
    return f"{there:%H:%M}" if there.date() == here.date() else f"{there:%a %H:%M}"
