"""What a user asks of a search; light, as the process that only supervises it has no use for torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smnas_optuna.study.record import StageName

if TYPE_CHECKING:
    from smnas_optuna.engine.device import DeviceChoice


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user asks for, in every worker of a search alike.

    Attributes:
        study_dir: Holds ``study.toml``, and gets the results.
        stage: Which one is searched.
        data_dir: The data; by default that of the last run, or ``study_dir/data``.
        trials: Budget, instead of the study file's, or of the search that is joined.
        num_parents: Of stage 2: structures whose modules are searched, instead of the study file's number.
        parents: Of stage 2: these structures, instead of chosen ones.
        device: Where to train and measure.
        pruning: Whether what known detectors rule out is left untrained, and who lags far behind at a rung is stopped.
        force: Go on although data, recipe or device are others than the study's, and mark the trials.
    """

    study_dir: Path
    stage: StageName = "structural"
    data_dir: Path | None = None
    trials: int | None = None
    num_parents: int | None = None
    parents: tuple[str, ...] = ()
    device: DeviceChoice = "auto"
    pruning: bool = True
    force: bool = False
