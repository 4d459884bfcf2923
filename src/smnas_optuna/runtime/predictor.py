"""An exported detector that finds objects in one image at a time, exactly as the search evaluated it."""

from __future__ import annotations

import os

import numpy as np

from smnas_optuna.errors import FileError
from smnas_optuna.paths import at_home
from smnas_optuna.runtime.canvas import in_original_pixels
from smnas_optuna.runtime.description import FIX, FileDescription
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Runtime
from smnas_optuna.runtime.picture import Picture, input_of, pixels_of
from smnas_optuna.runtime.sessions import Runner, open_runner


class Predictor:
    """An exported detector in a runtime; see :func:`load_exported`.

    Attributes:
        runner: The detector in its runtime.
        description: What its file says: architecture, classes, constants, AP, latency.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.description: FileDescription = runner.file.description

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], runtime: Runtime = "onnxruntime", *, num_threads: int | None = None
    ) -> Predictor:
        """Open an exported file; see :func:`load_exported`."""
        file = DetectorFile.read(at_home(path))
        return cls(open_runner(file, runtime, num_threads=num_threads))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; label 1 is the first."""
        return self.description.classes

    def predict(self, image: Picture) -> Detections:
        """Detect the objects in one image.

        It is resized as in training and evaluation, so that the boxes are those that AP was measured with.

        Args:
            image: Path, PIL image or numpy array (uint8 [H, W, 3] in RGB); see
                :func:`smnas_optuna.runtime.picture.pixels_of`.

        Returns:
            Boxes in pixels of the image as given; of a file, as it is seen when its EXIF data has turned it.

        Raises:
            DataError: If the image cannot be read, or is none of these.
            FileError: If the runtime cannot run the detector, or it returns what no detector returns.
        """
        pixels = pixels_of(image, grey_bits=self.description.grey_bits)
        images, sizes = input_of(pixels, self.description)
        found = self.runner.run(images, sizes)
        count, labels = int(found.counts[0]), found.labels[0]
        if not (0 <= count <= len(labels) and all(1 <= label <= len(self.classes) for label in labels[:count])):
            raise FileError(
                f"{self.runner.file.name}: it found {count} objects in {len(labels)} slots, with labels "
                f"{labels[: max(0, count)].tolist()}, but it has {len(self.classes)} classes",
                fix=FIX,
            )
        boxes = in_original_pixels(found.boxes, sizes, np.array([pixels.shape[:2]], np.int64))
        return Detections(
            boxes=boxes[0, :count],
            labels=labels[:count],
            names=[self.classes[label - 1] for label in labels[:count]],
            scores=found.scores[0, :count],
            thresholds=self.description.thresholds,
        )

    def __repr__(self) -> str:
        return f"Predictor({self.description.arch!r}, {len(self.classes)} classes)"


def load_exported(
    path: str | os.PathLike[str], runtime: Runtime = "onnxruntime", *, num_threads: int | None = None
) -> Predictor:
    """Open a detector that ``smnas export`` has written; needs numpy, Pillow and the runtime, but no torch.

    Args:
        path: The file.
        runtime: ``onnxruntime`` or ``openvino`` (CPU), ``cuda`` or ``tensorrt`` (ONNX Runtime on a GPU).
        num_threads: CPU threads of an operator; all cores that this process may use if it is None.

    Raises:
        DeviceError: If the runtime is not installed, or not available here.
        FileError: If the file is missing, damaged, or no exported detector.
    """
    return Predictor.open(path, runtime, num_threads=num_threads)
