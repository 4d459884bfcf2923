"""A detector as it would ship: folded, and run as one of the runtimes runs it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import Runtime
from smnas_optuna.engine.graphs import GraphDetector
from smnas_optuna.export import export_detector
from smnas_optuna.models import Detector, fold_for_inference
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import Runner, open_runner

NOT_SAID = "not said"
"""Names in the description of a file that is only timed, and never written."""


def as_shipped(detector: Detector, runtime: Runtime, threads: int | None = None) -> nn.Module:
    """Return a copy of ``detector`` as it would ship, with ``detect`` of :class:`smnas_optuna.models.Detector`.

    Args:
        detector: With the weights for deployment.
        runtime: What runs it. ``eager`` and ``graph`` are torch; the others run the exported file on the CPU.
        threads: CPU threads of an exported file; torch's own number by default.
    """
    if runtime == "eager":
        return fold_for_inference(detector)
    if runtime == "graph":
        return GraphDetector(fold_for_inference(detector))
    description = FileDescription(
        arch=NOT_SAID,
        classes=(NOT_SAID,),
        long=detector.long,
        short=detector.short,
        precision="fp32",
        constants={},
    )
    file = DetectorFile(
        name="the exported detector", content=export_detector(detector, description), description=description
    )
    return FileDetector(open_runner(file, runtime, num_threads=threads or torch.get_num_threads()))


def prepare_for(shipped: nn.Module, images: Sequence[Batch]) -> None:
    """Build what runs ``images``, if ``shipped`` is an exported file: the first run would take up to seconds."""
    if isinstance(shipped, FileDetector):
        for shape in {batch.images.shape for batch in images}:
            shipped.prepare(shape)


class FileDetector(nn.Module):
    """Runs an exported file on batches of ours, which are on the CPU.

    Args:
        runner: The file in a runtime.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def prepare(self, shape: torch.Size) -> None:
        """Build what runs images of this shape."""
        count, channels, height, width = shape
        self.runner.prepare((count, channels, height, width))

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Detect objects in each image of ``batch``, uint8; as :meth:`smnas_optuna.models.Detector.detect` does."""
        found = self.runner.run(batch.images.numpy(), batch.sizes.numpy())
        factors = np.tile((batch.original_sizes / batch.sizes).numpy()[:, ::-1], 2)
        return [
            {
                "boxes": torch.from_numpy(boxes[:count] * factor),
                "labels": torch.from_numpy(labels[:count]),
                "scores": torch.from_numpy(scores[:count]),
            }
            for boxes, labels, scores, count, factor in zip(
                found.boxes, found.labels, found.scores, found.counts, factors, strict=True
            )
        ]
