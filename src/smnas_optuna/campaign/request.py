"""The request of a campaign, and what it asks of each of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.config import DeviceChoice
from smnas_optuna.search.request import Request
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.study.record import StageName
from smnas_optuna.verify.request import VerifyRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class CampaignRequest:
    """A user's request for a campaign.

    Attributes:
        study_dir: Folder that contains ``study.toml``, and gets the results.
        hours: Budget in hours; None for the numbers of trainings in ``study.toml``.
        data_dir: The data folder; by default that of the last run, or ``study_dir/data``.
        device: The device to train and measure on.
        warm_start: Other study folders, whose trainings teach the surrogate as other tasks.
        force: True to continue although data, recipe or device changed; trials are then marked.
        ray: Address of a Ray cluster that trains; None for trainings on this machine.
        in_flight: Number of trainings at a time; by default one more than the cluster has places, or as many as this
            machine has devices.
    """

    study_dir: Path
    hours: float | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"
    warm_start: tuple[Path, ...] = ()
    force: bool = False
    ray: str | None = None
    in_flight: int | None = None

    @property
    def total_s(self) -> float | None:
        """Seconds of the whole budget; None without one in hours."""
        return None if self.hours is None else 3600 * self.hours

    def search(
        self,
        stage: StageName,
        deadline: Deadline | None = None,
        *,
        trials: int | None = None,
        num_parents: int | None = None,
    ) -> Request:
        """Return the request for the search of a stage, or for what follows it.

        Args:
            stage: The stage.
            deadline: End of the search, if it has one.
            trials: Number of trainings to plan with; with a deadline it ends nothing.
            num_parents: Number of structures whose modules are searched.
        """
        return Request(
            study_dir=self.study_dir,
            stage=stage,
            data_dir=self.data_dir,
            trials=trials,
            num_parents=num_parents,
            device=self.device,
            warm_start=self.warm_start,
            force=self.force,
            deadline=deadline,
            ray=self.ray,
            in_flight=self.in_flight,
        )

    def verification(self, archs: Sequence[str], seeds: int, deadline: Deadline | None = None) -> VerifyRequest:
        """Return the request for the verification of ``archs`` with ``seeds`` trainings each."""
        return VerifyRequest(
            study_dir=self.study_dir,
            archs=list(archs),
            seeds=seeds,
            data_dir=self.data_dir,
            device=self.device,
            deadline=deadline,
            ray=self.ray,
            in_flight=self.in_flight,
        )
