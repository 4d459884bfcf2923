"""A detector as it would ship: folded, and run as one of the runtimes runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import Runtime
from smnas_optuna.data.reading import FULL_BITS
from smnas_optuna.engine.graphs import GraphDetector
from smnas_optuna.export import export_detector, export_reference
from smnas_optuna.models import Detector, ReferenceDetector, fold_for_inference
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Runtime as FileRuntime
from smnas_optuna.runtime.sessions import Runner, open_runner

NOT_SAID = "not said"
"""Names in the description of a file that is only timed, and never written."""


Export = Callable[[Detector, FileDescription], bytes]
"""Returns the content of the exported file of a detector."""


def as_shipped(
    detector: Detector | ReferenceDetector,
    runtime: Runtime,
    threads: int | None = None,
    export: Export = export_detector,
) -> nn.Module:
    """Return a copy of ``detector`` as it would ship, with ``detect`` of :class:`smnas_optuna.models.Detector`.

    Args:
        detector: With the weights for deployment; one of torchvision's is returned as it is if torch runs it.
        runtime: What runs it. ``eager`` and ``graph`` are torch; the others run the exported file on the CPU.
        threads: CPU threads of an exported file; torch's own number by default.
        export: Exports a detector of ours.
    """
    if runtime == "eager":
        return detector if isinstance(detector, ReferenceDetector) else fold_for_inference(detector)
    if runtime == "graph":
        return detector if isinstance(detector, ReferenceDetector) else GraphDetector(fold_for_inference(detector))
    return FileDetector(_runners(detector, runtime, threads or torch.get_num_threads(), export))


def timed_description(
    detector: Detector | ReferenceDetector, *, arch: str = NOT_SAID, grey_bits: int = FULL_BITS
) -> FileDescription:
    """Return the description of a file that is only timed: what its input must be, and no more."""
    return FileDescription(
        arch=arch,
        classes=(NOT_SAID,),
        long=detector.long,
        short=detector.short,
        precision="fp32",
        constants={},
        grey_bits=grey_bits,
    )


def prepare_for(shipped: nn.Module, images: Sequence[Batch]) -> None:
    """Build what runs ``images``, if ``shipped`` is an exported file: the first run would take up to seconds."""
    if isinstance(shipped, FileDetector):
        for shape in {batch.images.shape for batch in images}:
            shipped.prepare(shape)


def _runners(
    detector: Detector | ReferenceDetector, runtime: FileRuntime, threads: int, export: Export
) -> Callable[[bool], Runner]:
    """Return what runs the exported ``detector`` on the landscape canvas (False) and on the portrait one (True)."""
    description = timed_description(detector)

    def run(content: bytes) -> Runner:
        file = DetectorFile(name="the exported detector", content=content, description=description)
        return open_runner(file, runtime, num_threads=threads)

    if isinstance(detector, ReferenceDetector):  # a file for each canvas, made when it is needed
        return cache(lambda portrait: run(export_reference(detector, description, portrait=portrait)))
    runner = run(export(detector, description))
    return lambda _: runner


class FileDetector(nn.Module):
    """Runs the exported file of a detector on batches of ours, which are on the CPU.

    Args:
        runners: Returns what runs images on the landscape canvas (False) and on the portrait one (True).
    """

    def __init__(self, runners: Callable[[bool], Runner]) -> None:
        super().__init__()
        self._runner_of = runners

    def prepare(self, shape: torch.Size) -> None:
        """Build what runs images of this shape."""
        count, channels, height, width = shape
        self._runner_of(height > width).prepare((count, channels, height, width))

    def parts(self, batches: Sequence[Batch], on_run: Callable[[], object]) -> dict[str, float] | None:
        """Return the share of each part in the latency; see :class:`smnas_optuna.runtime.sessions.Runner`."""
        inputs = [(batch.images.numpy(), batch.sizes.numpy()) for batch in batches]
        portraits = sum(images.shape[2] > images.shape[3] for images, _ in inputs)
        return self._runner_of(2 * portraits > len(inputs)).parts(inputs, on_run)

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Detect objects in each image of ``batch``, uint8; as :meth:`smnas_optuna.models.Detector.detect` does."""
        images = batch.images.numpy()
        found = self._runner_of(images.shape[2] > images.shape[3]).run(images, batch.sizes.numpy())
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
