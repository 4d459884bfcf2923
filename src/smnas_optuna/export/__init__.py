"""Export: a trained detector -> one ONNX file, from uint8 pixels to boxes, that runs without torch."""

from smnas_optuna.export.onnx_file import Exporter, described, export_detector
from smnas_optuna.export.reference import export_reference

__all__ = ["Exporter", "described", "export_detector", "export_reference"]
