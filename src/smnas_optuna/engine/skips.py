"""Steps with a loss or gradient that is not finite: skipped and counted on the device, borne while they are few."""

from __future__ import annotations

import torch
from torch import Tensor

from smnas_optuna.errors import DivergenceError

MAX_SKIPPED_IN_A_ROW = 10
MAX_SKIPPED_SHARE = 0.05
"""So many in a row, or more than this share of all steps, is a divergence."""
STEPS_PER_READING = 20
"""A divergence is noticed at most so many steps late: reading the counts makes the host wait for the device."""


class SkipGuard:
    """Counts skipped steps on the device, and ends a training that has diverged when the counts are read.

    Args:
        total: Steps of the whole training.
        device: Of the detector.

    Attributes:
        counts: int32 Tensor[3]: steps skipped, those in a row up to the last one, and most in a row.
    """

    def __init__(self, total: int, device: torch.device) -> None:
        self._most = max(MAX_SKIPPED_IN_A_ROW, round(total * MAX_SKIPPED_SHARE))
        self.counts = torch.zeros(3, dtype=torch.int32, device=device)

    def count(self, finite: Tensor, done: int) -> None:
        """Count the step that makes it ``done`` steps, and read the counts if it is time to.

        Args:
            finite: bool Tensor[], whether it was taken.
            done: Steps of the whole training so far.

        Raises:
            DivergenceError: If too many were skipped.
        """
        skipped = (~finite).int()
        before, in_a_row, longest = self.counts.unbind()
        in_a_row = (in_a_row + 1) * skipped
        self.counts.copy_(torch.stack((before + skipped, in_a_row, torch.maximum(longest, in_a_row))))
        if done % STEPS_PER_READING == 0:
            self.read(done)

    def read(self, done: int) -> int:
        """Return how many of the ``done`` steps were skipped; waits for the device.

        Raises:
            DivergenceError: If these were too many.
        """
        skipped, _, longest = self.counts.tolist()
        if longest >= MAX_SKIPPED_IN_A_ROW or skipped > self._most:
            raise DivergenceError(
                f"training diverged: {skipped} of {done} steps had a loss or gradient that is not finite",
                fix="lower [train] learning_rate or clip_norm, or lengthen warmup",
            )
        return int(skipped)
