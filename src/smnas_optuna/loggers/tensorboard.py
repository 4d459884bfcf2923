"""Curves in TensorBoard."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smnas_optuna.api.events import Event
from smnas_optuna.errors import ConfigError
from smnas_optuna.loggers.scalars import scalars_of
from smnas_optuna.paths import at_home

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLogger:
    """Writes the curves of each training into a folder for TensorBoard; a callback.

    ``tensorboard --logdir FOLDER`` shows them: loss and AP over epochs, and the latency of each trial that ended.

    Args:
        folder: Gets a subfolder for each training.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "TensorBoard is not installed", fix="install it: pip install 'smnas-optuna[tensorboard]'"
            ) from error
        self._folder, self._open = at_home(folder), SummaryWriter
        self._writers: dict[str, SummaryWriter] = {}

    def __call__(self, event: Event) -> None:
        """Write the numbers of ``event``."""
        scalars = scalars_of(event)
        if scalars is None:
            return
        writer = self._writers.get(scalars.run)
        if writer is None:
            writer = self._writers[scalars.run] = self._open(self._folder / scalars.run)
        for name, value in scalars.values.items():
            writer.add_scalar(name, value, scalars.step)
        writer.flush()
        if scalars.final:
            self._writers.pop(scalars.run).close()
