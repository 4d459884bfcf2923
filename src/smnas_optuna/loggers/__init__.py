"""Callbacks that show a search or a training in other tools; each needs a package of its own."""

from smnas_optuna.loggers.mlflow import MlflowLogger
from smnas_optuna.loggers.tensorboard import TensorBoardLogger

__all__ = ["MlflowLogger", "TensorBoardLogger"]
