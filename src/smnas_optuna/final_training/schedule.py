"""The length of a final training: its epochs, those after which it is evaluated, and the time that they take."""

from __future__ import annotations

from dataclasses import dataclass

from smnas_optuna.duration import format_seconds, plural

MOST_EVALUATIONS = 20
"""Evaluations of a training on the validation images. More would tell little, and choose the best one by luck."""
MOST_EPOCHS = 100_000
"""Most epochs of a recipe; see :class:`smnas_optuna.config.settings.TrainSettings`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Seconds of a training: of an epoch, of an evaluation on the validation images, and of all that comes after."""

    epoch_s: float
    evaluation_s: float
    end_s: float

    def total_s(self, epochs: int) -> float:
        """Return the seconds of a training of so many epochs."""
        return epochs * self.epoch_s + len(evaluation_epochs(epochs)) * self.evaluation_s + self.end_s

    def epochs_within(self, seconds: float) -> int:
        """Return the largest number of epochs that end within ``seconds``; at least 1, and at most ``MOST_EPOCHS``."""
        fewest, most = 1, MOST_EPOCHS
        while fewest < most:
            middle = (fewest + most + 1) // 2
            if self._bound_s(middle) <= seconds:
                fewest = middle
            else:
                most = middle - 1
        return fewest

    def in_words(self, epochs: int, whose: str = "this moment's") -> str:
        """Return the likely time of so many epochs; ``whose`` pace it is."""
        evaluations = len(evaluation_epochs(epochs))
        line = f"time: about {format_seconds(self.total_s(epochs))} at {whose} pace"
        line += f": epochs of {format_seconds(self.epoch_s)}"
        return line + (
            f", {evaluations} {plural(evaluations, 'evaluation')} of {format_seconds(self.evaluation_s)}"
            if self.evaluation_s
            else ""
        )

    def _bound_s(self, epochs: int) -> float:
        """Return :meth:`total_s` or a little more: never less for more epochs, whose evaluations may be fewer."""
        return epochs * self.epoch_s + min(epochs, MOST_EVALUATIONS) * self.evaluation_s + self.end_s


def evaluation_epochs(epochs: int) -> frozenset[int]:
    """Return the epochs after which a training is evaluated: at most ``MOST_EVALUATIONS``, evenly spread, and the last.

    Args:
        epochs: Epochs of the training, from 1.
    """
    every = -(-epochs // MOST_EVALUATIONS)
    return frozenset((*range(every, epochs + 1, every), epochs))
