"""DetectorSpec -> nn.Module, from torchvision's detection parts."""

from smnas_optuna.models.build import build_detector
from smnas_optuna.models.detector import Detector
from smnas_optuna.models.layers import fold_for_inference

__all__ = ["Detector", "build_detector", "fold_for_inference"]
