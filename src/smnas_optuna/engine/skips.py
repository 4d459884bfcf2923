"""Steps with a non-finite loss or gradient: skipped and counted on the device, and tolerated while they are few."""

from __future__ import annotations

import torch
from torch import Tensor

from smnas_optuna.errors import DivergenceError

MAX_SKIPPED_IN_A_ROW = 10
MAX_SKIPPED_SHARE = 0.05
"""A training has diverged after ``MAX_SKIPPED_IN_A_ROW`` skipped steps in a row, or if more than this share of all
steps, and more than ``MAX_SKIPPED_IN_A_ROW``, were skipped."""
STEPS_PER_READING = 20
"""Steps between two readings of the counts, which make the host wait for the device. A divergence is noticed at most
this many steps late."""


class SkipGuard:
    """Counts skipped steps on the device, and raises an error if the training has diverged.

    Args:
        total: Number of steps of the whole training.
        device: Device of the detector.

    Attributes:
        counts: int32 Tensor[3]: skipped steps, current run of skipped steps, longest run.
    """

    def __init__(self, total: int, device: torch.device) -> None:
        self._most = max(MAX_SKIPPED_IN_A_ROW, round(total * MAX_SKIPPED_SHARE))
        self.counts = torch.zeros(3, dtype=torch.int32, device=device)

    def count(self, finite: Tensor, done: int) -> None:
        """Count the ``done``-th step, and read the counts every ``STEPS_PER_READING`` steps.

        Args:
            finite: bool Tensor[], False if the step was skipped.
            done: Steps of the whole training so far, this one included.

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
        """Return the number of skipped steps among the ``done`` ones; waits for the device.

        Raises:
            DivergenceError: If too many were skipped.
        """
        skipped, _, longest = self.counts.tolist()
        if longest >= MAX_SKIPPED_IN_A_ROW or skipped > self._most:
            raise DivergenceError(
                f"training diverged: {skipped} of {done} steps had a loss or gradient that is not finite",
                fix="lower [train] learning_rate or clip_norm, or lengthen warmup",
            )
        return int(skipped)
