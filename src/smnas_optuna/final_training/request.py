"""The request of a final training."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from smnas_optuna.config import DeviceChoice
from smnas_optuna.errors import StudyError, quote

LONGER = 5
"""Default number of epochs, as a multiple of the search's."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")
"""A name of a training, which is that of its folder; of so many characters every disk has files."""


class TrainOptions(TypedDict, total=False):
    """What may be said of a training beside its detector; see :class:`TrainRequest`."""

    epochs: int | None
    hours: float | None
    with_val: bool
    name: str | None
    data_dir: Path | None
    device: DeviceChoice


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRequest:
    """A user's request for a final training.

    Attributes:
        study_dir: Folder of a study whose search has begun.
        arch: Canonical string of the architecture.
        epochs: Epochs of the training; ``LONGER`` times the search's by default.
        hours: Time that the training may take in their place; as many epochs as fit, and at least one.
        with_val: Train on the validation images, too. The test images decide then.
        name: Name of the training; by default it says the rest of the request.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
        device: The device to train and measure on.
    """

    study_dir: Path
    arch: str
    epochs: int | None = None
    hours: float | None = None
    with_val: bool = False
    name: str | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.hours is not None:
            raise StudyError("--epochs and --hours are both given", fix="give one of them")
        if (self.epochs is not None and self.epochs < 1) or (self.hours is not None and not self.hours >= 0):
            raise StudyError("a training has at least one epoch, and no less than 0 hours", fix="give more of them")
        if self.name is not None:
            check_name(self.name)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values by name; see :meth:`from_json`."""
        data_dir = None if self.data_dir is None else str(self.data_dir)
        return {**dataclasses.asdict(self), "study_dir": str(self.study_dir), "data_dir": data_dir}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainRequest:
        """Return the request that :meth:`as_json` wrote."""
        data_dir = None if values["data_dir"] is None else Path(values["data_dir"])
        return cls(**{**values, "study_dir": Path(values["study_dir"]), "data_dir": data_dir})

    def epochs_wanted(self, search_epochs: int) -> int | None:
        """Return the epochs of the training; None if they follow from ``hours``."""
        if self.hours is not None:
            return None
        return LONGER * search_epochs if self.epochs is None else self.epochs

    def name_for(self, search_epochs: int) -> str:
        """Return the name of the training."""
        epochs = self.epochs_wanted(search_epochs)
        length = f"hours{self.hours:g}" if epochs is None else f"epochs{epochs}"
        return self.name or f"{self.arch}.{length}" + (".with-val" if self.with_val else "")


def check_name(name: str) -> None:
    """Check that ``name`` can be that of a training, and of its folder.

    Raises:
        StudyError: If it cannot; it must not lead out of the study folder.
    """
    if NAME.fullmatch(name) is None:
        raise StudyError(
            f"{quote(name)} cannot be the name of a training",
            fix="take letters, digits, dots, hyphens and underscores, up to 240, and begin with a letter or digit",
        )
