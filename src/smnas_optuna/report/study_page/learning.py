"""The learning curve of a training of the search, from the log in the folder of its run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.real_files import read_text
from smnas_optuna.study.folder import LOG_FILE

LONGEST = 2**24
"""Bytes of the largest log; an epoch takes about 90."""
_LOSS = re.compile(r"^\S+ epoch (\d{1,6})/(\d{1,6}): loss (\d[\d.e+-]*),")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """A learning curve.

    Attributes:
        losses: Mean loss by epoch, from 1; what was not finite is left out.
    """

    losses: Mapping[int, float]


def read_learning_curve(run: Path) -> LearningCurve | None:
    """Return the curve of the last training in the folder ``run``; None without any.

    A training that was interrupted has each epoch again that it repeated: the last one counts.
    """
    try:
        lines = read_text(run / LOG_FILE, LONGEST).splitlines()
    except OSError:
        return None
    losses = dict[int, float]()
    for line in lines:
        if (found := _LOSS.match(line)) and _is_number(found[3]):
            epoch = int(found[1])
            if epoch == 1:
                losses = {}  # another training, of the same architecture
            losses = {each: loss for each, loss in losses.items() if each < epoch} | {epoch: float(found[3])}
    return LearningCurve(losses=losses) if losses else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
