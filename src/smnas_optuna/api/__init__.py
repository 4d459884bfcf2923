"""Python for a notebook: open a study, look at its front, and detect with what it found. Loads no torch by itself."""

from smnas_optuna.api.load import load_detector
from smnas_optuna.api.study import OpenStudy, open_study
from smnas_optuna.api.trial import Trial
from smnas_optuna.runtime.detections import Detections

__all__ = ["Detections", "OpenStudy", "Trial", "load_detector", "open_study"]
