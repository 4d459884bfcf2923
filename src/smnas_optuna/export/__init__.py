"""Export: a trained detector -> one ONNX file, from uint8 pixels to boxes, that runs without torch."""

from smnas_optuna.export.onnx_file import described, export_detector

__all__ = ["described", "export_detector"]
