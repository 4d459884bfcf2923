"""The place of a finished detector on the front of its study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smnas_optuna.study.record import TrialRecord

OTHERS_GAIN = "the APs of the others are those of the search; longer trainings would raise them, too"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A detector beside the other members of the front.

    Attributes:
        dominated_by: Architectures of members that are no slower and no less accurate, fastest first.
        dominates: Architectures of members that are slower and less accurate, fastest first.
    """

    dominated_by: tuple[str, ...]
    dominates: tuple[str, ...]

    def in_words(self) -> str:
        """Return the place in one line."""
        if self.dominated_by:
            first, count = self.dominated_by[0], len(self.dominated_by)
            which = f"{first} is" if count == 1 else f"{count} members, {first} among them, are"
            return f"off the front: {which} no slower and no less accurate; {OTHERS_GAIN}"
        more = f", and it beats {len(self.dominates)} of them in both" if self.dominates else ""
        return f"on the front: no other member is as fast and as accurate{more}; {OTHERS_GAIN}"


def place_of(arch: str, latency_ms: float, ap: float, front: Iterable[TrialRecord]) -> Place:
    """Return the place of a detector among the members of ``front`` with another architecture.

    Args:
        arch: Its architecture.
        latency_ms: Its latency, in the study's milliseconds.
        ap: Its AP on the validation images, in [0, 1].
        front: Members, fastest first.
    """
    others = [(str(each.arch), each.latency_ms or 0.0, each.ap or 0.0) for each in front if each.arch != arch]
    return Place(
        dominated_by=tuple(other for other, ms, its_ap in others if ms <= latency_ms and its_ap >= ap),
        dominates=tuple(other for other, ms, its_ap in others if ms > latency_ms and its_ap < ap),
    )
