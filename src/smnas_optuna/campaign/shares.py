"""Shares of a budget in hours: arithmetic alone, in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smnas_optuna.campaign.ledger import Phase
from smnas_optuna.session.deadline import Deadline

SHARES: Mapping[Phase, float] = {"structural": 0.45, "modular": 0.40, "timing": 0.02, "verification": 0.13}
"""Shares of the budget. What a phase does not use, the next ones get."""
MOST_TIMING = 0.1
"""Joint timing takes what it is expected to need, but is left out if that is more than this share of the budget."""
GRACE = 0.05
"""Share of the budget after the end of a phase until which a training that is longer than expected goes on."""
LAST_GRACE = 0.03
"""The same after the last phase: with the report the command ends within a tenth of the budget."""
REPORT_SHARE, MOST_REPORT_S = 0.03, 15.0
"""Time that is kept for tables and pictures at the end."""
START_S = 10.0
"""Assumed time in which a worker starts: libraries, data, reference detector."""
MORE_TIMED = 4
"""Assumed number of detectors that stage 2 adds to those that are timed again after it."""
MUCH = 0.1
"""Share of the budget from which on the search goes on after the verification with what is left."""
FEWEST_TRAININGS = 2
"""Stage 2 is left out if fewer trainings fit."""
TRAININGS_OF_A_PARENT = 4
"""Trainings for each structure whose modules are searched, at least: so few time, so few structures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A budget in hours at the begin of a phase.

    Attributes:
        total_s: Seconds of the whole budget.
        spent_s: Seconds that each phase has spent.
        now: Seconds since 1970.
    """

    total_s: float
    spent_s: Mapping[Phase, float]
    now: float

    @property
    def left_s(self) -> float:
        """Seconds of work that are left, without the report."""
        report_s = min(MOST_REPORT_S, REPORT_SHARE * self.total_s)
        return max(0.0, self.total_s - sum(self.spent_s.values()) - report_s)

    def structural_s(self) -> float:
        """Return the seconds that stage 1 has left of its share."""
        return min(self.left_s, max(0.0, SHARES["structural"] * self.total_s - self.spent_s["structural"]))

    def modular_s(self, timing_s: float, verification_s: float | None) -> float:
        """Return the seconds of stage 2: all that joint timing and verification do not need.

        Args:
            timing_s: Seconds of joint timing.
            verification_s: Seconds of the whole verification; None if it is left out.
        """
        return max(0.0, self.left_s - self.reserve_s(timing_s) - self.verification_s(verification_s))

    def reserve_s(self, timing_s: float) -> float:
        """Return the seconds that are kept for joint timing; 0 if it takes too many."""
        return max(timing_s, SHARES["timing"] * self.total_s) if self.allows_timing(timing_s) else 0.0

    def allows_timing(self, timing_s: float) -> bool:
        """Return whether joint timing is worth its time."""
        return timing_s <= MOST_TIMING * self.total_s

    def verification_s(self, wished_s: float | None) -> float:
        """Return the seconds that are kept for the verification: its share, or less if it needs less."""
        return 0.0 if wished_s is None else min(wished_s, SHARES["verification"] * self.total_s)

    def deadline(self, seconds: float, *, last: bool = False) -> Deadline:
        """Return the deadline of a phase that has ``seconds``; ``last`` if no training follows it."""
        end, at = self.now + self.total_s - sum(self.spent_s.values()), self.now + seconds
        grace_s = (LAST_GRACE if last else GRACE) * self.total_s
        latest = at + grace_s if last else max(at, min(at + grace_s, self.now + self.left_s))
        return Deadline(at=at, latest=latest, end=end, total_s=self.total_s)


def modular_trainings(seconds: float, trials_s: float, trained: int, workers: int) -> int:
    """Return the number of trainings of stage 2 in ``seconds``, if one takes as long as in stage 1.

    Args:
        seconds: Seconds of stage 2, without the start of its workers.
        trials_s: Seconds of all trials of stage 1 together, those that were pruned included.
        trained: Number of architectures that it has trained, at least 1.
        workers: Number of workers.
    """
    return int(max(0.0, seconds) * workers * trained / trials_s) if trials_s > 0 else 0


def num_parents(trainings: int, most: int) -> int:
    """Return the number of structures to search inside with so many trainings, at least 1 and at most ``most``."""
    return max(1, min(most, trainings // TRAININGS_OF_A_PARENT))
