"""Detectors: DetectorSpec -> nn.Module, built from torchvision's detection parts."""

from smnas_optuna.models.build import build_detector
from smnas_optuna.models.detector import Detector
from smnas_optuna.models.layers import fold_for_inference
from smnas_optuna.models.reference import REFERENCE_DETECTORS, ReferenceDetector, build_reference_detector

__all__ = [
    "REFERENCE_DETECTORS",
    "Detector",
    "ReferenceDetector",
    "build_detector",
    "build_reference_detector",
    "fold_for_inference",
]
