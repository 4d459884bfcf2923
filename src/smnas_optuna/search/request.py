"""The request of a search, as its supervisor and its workers know it; the supervisor needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.config import DeviceChoice
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.study.attributes import DEADLINE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import StageName
from smnas_optuna.study.stored import study_attrs


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A user's request for a search, the same in each of its workers.

    Attributes:
        study_dir: Folder that contains ``study.toml``, and gets the results.
        stage: The stage to search.
        data_dir: The data folder; by default that of the last run, or ``study_dir/data``.
        trials: Budget; by default that of the study file, or of the search that is joined.
        num_parents: Stage 2: number of structures whose modules are searched; by default that of the study file.
        parents: Stage 2: these structures, instead of chosen ones.
        device: The device to train and measure on.
        pruning: True if partial-order pruning and early stops are on.
        warm_start: Other study folders, whose trainings teach the surrogate as other tasks.
        force: True to continue although data, recipe or device changed; trials are then marked.
        deadline: End of the search, if its budget is time. The number of trials then only plans: it does not end it.
        ray: Address of a Ray cluster that trains; None for trainings on this machine.
        in_flight: Number of trainings at a time; by default one more than the cluster has places, or as many as this
            machine has devices.
    """

    study_dir: Path
    stage: StageName = "structural"
    data_dir: Path | None = None
    trials: int | None = None
    num_parents: int | None = None
    parents: tuple[str, ...] = ()
    device: DeviceChoice = "auto"
    pruning: bool = True
    warm_start: tuple[Path, ...] = ()
    force: bool = False
    deadline: Deadline | None = None
    ray: str | None = None
    in_flight: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return JSON values by name; see :meth:`from_json`."""
        data_dir = None if self.data_dir is None else str(self.data_dir)
        paths = {"study_dir": str(self.study_dir), "data_dir": data_dir, "warm_start": list(map(str, self.warm_start))}
        return {**dataclasses.asdict(self), **paths}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """Return the request that :meth:`as_json` wrote."""
        data_dir = None if values["data_dir"] is None else Path(values["data_dir"])
        paths = {"study_dir": Path(values["study_dir"]), "data_dir": data_dir}
        lists = {"parents": tuple(values["parents"]), "warm_start": tuple(map(Path, values["warm_start"]))}
        deadline = Deadline.from_json(values["deadline"])
        return cls(**{**values, **paths, **lists, "deadline": deadline})


def joining(request: Request) -> Request:
    """Return ``request`` with the deadline of the running search that it joins, unless it has a budget of its own."""
    folder = StudyFolder(request.study_dir)
    study = folder.structural if request.stage == "structural" else next(iter(folder.modular), None)
    if study is None or request.trials is not None:
        return request
    return dataclasses.replace(request, deadline=Deadline.from_json(study_attrs(study).get(DEADLINE)))


def search_progress(study_dir: Path) -> int:
    """Return a number that grows whenever a trial of any of the folder's studies advances."""
    records = StudyFolder(study_dir).records()
    ended = sum(record.state in ("complete", "pruned") for record in records)
    return ended + sum(record.epochs_done - record.epochs_before for record in records)
