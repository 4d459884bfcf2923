"""The request of a verification, as its supervisor and its workers know it; the supervisor needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.config import DeviceChoice
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.verify.results import Key

LONGER = 2
"""Default number of epochs, as a multiple of the study's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyRequest:
    """A user's request for a verification, the same in each of its workers.

    Attributes:
        study_dir: Folder of a study that has trained something; gets the results.
        archs: Architectures to retrain, in this order.
        seeds: Number of trainings of each architecture, at least 1.
        epochs: Epochs of each training; ``LONGER`` times the study's by default.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
        device: The device to train on.
        deadline: End of the verification, if its time is bounded.
        ray: Address of a Ray cluster that trains; None for trainings on this machine.
        in_flight: Number of trainings at a time; by default one more than the cluster has places, or as many as this
            machine has devices.
    """

    study_dir: Path
    archs: Sequence[str]
    seeds: int = 3
    epochs: int | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"
    deadline: Deadline | None = None
    ray: str | None = None
    in_flight: int | None = None

    @property
    def folder(self) -> Path:
        """Folder of results and checkpoints."""
        return StudyFolder(self.study_dir).verify

    def wanted(self, study_epochs: int) -> list[Key]:
        """Return the requested trainings.

        All architectures get their first seed before any gets its second, so that stopping early still compares them.
        """
        epochs = self.epochs or LONGER * study_epochs
        return [(arch, number, epochs) for number in range(1, self.seeds + 1) for arch in self.archs]

    def as_json(self) -> dict[str, Any]:
        """Return JSON values by name; see :meth:`from_json`."""
        data_dir = None if self.data_dir is None else str(self.data_dir)
        paths = {"study_dir": str(self.study_dir), "data_dir": data_dir}
        return {**dataclasses.asdict(self), **paths, "archs": list(self.archs)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VerifyRequest:
        """Return the request that :meth:`as_json` wrote."""
        data_dir = None if values["data_dir"] is None else Path(values["data_dir"])
        paths = {"study_dir": Path(values["study_dir"]), "data_dir": data_dir}
        return cls(**{**values, **paths, "deadline": Deadline.from_json(values["deadline"])})


def verify_progress(folder: Path) -> int:
    """Return a number that grows whenever a training in ``folder``, that of a verification, stores something."""
    times = [0]
    for file in folder.iterdir():
        if file.suffix in (".json", ".safetensors"):
            with suppress(FileNotFoundError):  # removed meanwhile
                times.append(file.stat().st_mtime_ns)
    return max(times)
