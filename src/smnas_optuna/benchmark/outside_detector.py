"""An ONNX file of anybody as a detector that can be timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.runtime.any_file import AnyFile
from smnas_optuna.runtime.canvas import MEAN_COLOUR


class OutsideDetector(nn.Module):
    """Runs an ONNX file on batches of one image, which are on the CPU and have the size of its input."""

    def __init__(self, file: AnyFile) -> None:
        super().__init__()
        self._file = file

    def detect(self, batch: Batch) -> object:
        """Return the outputs of the file, whatever they mean, for one image, uint8."""
        return self._file.run(batch.images[0].numpy())

    def fitted(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return the images of ``batches``, one in each, on a canvas of the size of the input.

        An image that is too large is resized, aspect ratio kept. It lies in the upper left corner.
        """
        return [_fitted(batch, *self._file.size) for batch in batches]


def _fitted(batch: Batch, height: int, width: int) -> Batch:
    own_height, own_width = batch.sizes[0].tolist()
    image = batch.images[:, :, :own_height, :own_width]
    factor = min(height / own_height, width / own_width)
    if factor < 1:
        own_height, own_width = (max(1, int(edge * factor)) for edge in (own_height, own_width))
        smaller = nn.functional.interpolate(
            image.float(), size=(own_height, own_width), mode="bilinear", antialias=True
        )
        image = smaller.round().clamp(0, 255).to(torch.uint8)
    canvas = torch.tensor(MEAN_COLOUR, dtype=torch.uint8).reshape(1, 3, 1, 1).repeat(1, 1, height, width)
    canvas[:, :, :own_height, :own_width] = image
    return replace(batch, images=canvas, sizes=torch.tensor([[own_height, own_width]]))
