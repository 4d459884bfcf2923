"""Load a trained detector. Importing this module loads no torch; calling the function does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smnas_optuna.paths import at_home

if TYPE_CHECKING:
    from smnas_optuna.api.detector import TrainedDetector
    from smnas_optuna.config import DeviceChoice


def load_detector(run_folder: str | os.PathLike[str], *, device: DeviceChoice = "auto") -> TrainedDetector:
    """Return the trained detector in ``run_folder``.

    Args:
        run_folder: Holds ``weights.safetensors`` and ``detector.json``, such as the ``run_folder`` of a member of
            :meth:`smnas_optuna.api.OpenStudy.front`; ``~`` is the home folder.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.

    Raises:
        CheckpointError: If there is no such folder, it holds no weights (those of dominated trials are removed), or a
            file in it is damaged.
        DeviceError: If there is no such device.
    """
    from smnas_optuna.api.detector import read_detector  # loads torch, which takes seconds

    return read_detector(at_home(run_folder), device)
