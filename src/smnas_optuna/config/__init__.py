"""The study file: its settings as frozen pydantic models, and how they are read."""

from smnas_optuna.config.settings import (
    Arch,
    DataFormat,
    DataSettings,
    DetectorSettings,
    DeviceChoice,
    LatencySettings,
    ModularSettings,
    ModularSpace,
    Runtime,
    RuntimeChoice,
    SearchSettings,
    ShapesSettings,
    SpaceSettings,
    StructuralSpace,
    StudySettings,
    TrainSettings,
)
from smnas_optuna.config.study_file import STUDY_FILE, check_study_dir, load_settings

__all__ = [
    "STUDY_FILE",
    "Arch",
    "DataFormat",
    "DataSettings",
    "DetectorSettings",
    "DeviceChoice",
    "LatencySettings",
    "ModularSettings",
    "ModularSpace",
    "Runtime",
    "RuntimeChoice",
    "SearchSettings",
    "ShapesSettings",
    "SpaceSettings",
    "StructuralSpace",
    "StudySettings",
    "TrainSettings",
    "check_study_dir",
    "load_settings",
]
