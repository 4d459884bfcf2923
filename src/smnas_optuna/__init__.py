"""SM-NAS on Optuna: search for detectors that are fast on your device and accurate on your data."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smnas_optuna.api import load_detector, open_study
    from smnas_optuna.arch import BASELINES, decode, encode
    from smnas_optuna.models import build_detector
    from smnas_optuna.prediction.drawing import draw_detections
    from smnas_optuna.runtime.predictor import load_exported

__all__ = [
    "BASELINES",
    "__version__",
    "build_detector",
    "decode",
    "draw_detections",
    "encode",
    "load_detector",
    "load_exported",
    "open_study",
]

__version__ = "0.1.0"

_HOMES = {
    "BASELINES": "smnas_optuna.arch",
    "build_detector": "smnas_optuna.models",
    "decode": "smnas_optuna.arch",
    "draw_detections": "smnas_optuna.prediction.drawing",
    "encode": "smnas_optuna.arch",
    "load_detector": "smnas_optuna.api",
    "load_exported": "smnas_optuna.runtime.predictor",
    "open_study": "smnas_optuna.api",
}


def __getattr__(name: str) -> object:
    # Importing the package alone must not load torch, which takes seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
