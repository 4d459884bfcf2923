"""Choice of what is verified in the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from smnas_optuna.verify.results import Key
from smnas_optuna.verify.verdict import Candidate

TOP, SEEDS = 3, 3
"""What ``smnas verify`` verifies by default: members of the front, and trainings of each."""
MOST_SEEDS = 10
"""Trainings of each architecture, at most; with that much time more members would be better, and there are none."""

Candidates = Callable[[int], Sequence[Candidate]]
"""Returns so many front members, those that add most hypervolume, and all baselines, fastest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Architectures to verify.

    Attributes:
        candidates: The architectures, fastest first.
        seeds: Number of trainings of each.
        seconds: Time that the trainings are expected to take.
    """

    candidates: Sequence[Candidate]
    seeds: int
    seconds: float

    @property
    def archs(self) -> list[str]:
        """The architectures, slowest first: long trainings go first."""
        return [each.arch for each in reversed(self.candidates)]


def choose_selection(
    candidates: Candidates,
    size: int,
    seconds_of: Callable[[Sequence[Key]], float],
    epochs: int,
    left_s: float,
    most_seeds: int = MOST_SEEDS,
) -> Selection | None:
    """Return the most that can be verified in ``left_s`` seconds; None if not even one training fits.

    Three trainings of each member of the front come first, then fewer members; then two trainings, and one. Baselines
    are among them, but for the last resort. If all members fit with three trainings, they get more.

    Args:
        candidates: See :data:`Candidates`.
        size: Number of members of the front.
        seconds_of: Returns the seconds that trainings take together.
        epochs: Epochs of a training.
        left_s: Seconds that are left.
        most_seeds: Trainings of each architecture, at most.
    """

    def select(top: int, seeds: int, *, with_baselines: bool = True) -> Selection | None:
        chosen = [each for each in candidates(top) if with_baselines or each.on_front]
        keys = [(each.arch, number, epochs) for number in range(1, seeds + 1) for each in reversed(chosen)]
        seconds = seconds_of(keys)
        return Selection(candidates=chosen, seeds=seeds, seconds=seconds) if keys and seconds <= left_s else None

    most = select(size, SEEDS)
    while most is not None and most.seeds < most_seeds and (more := select(size, most.seeds + 1)) is not None:
        most = more
    fewer = (select(top, seeds, with_baselines=with_baselines) for top, seeds, with_baselines in _fewer(size))
    return most or next((each for each in fewer if each is not None), None)


def _fewer(size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (members, trainings of each, with baselines), each less than the one before."""
    for top in range(size - 1, 1, -1):
        yield top, SEEDS, True
    for seeds in (2, 1):
        for top in range(min(size, TOP), min(size - 1, 1), -1):
            yield top, seeds, True
    for top in range(size, 0, -1):
        yield top, 1, False
