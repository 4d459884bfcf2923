"""torchvision's detectors as exported files, so that they are timed as ours are."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from smnas_optuna.batch import canvas_size
from smnas_optuna.export.onnx_file import described, traced
from smnas_optuna.models import ReferenceDetector
from smnas_optuna.runtime.description import FileDescription


def export_reference(detector: ReferenceDetector, description: FileDescription, *, portrait: bool) -> bytes:
    """Return torchvision's ``detector`` as the bytes of an ONNX file with the inputs and outputs of ours.

    The file is for one image on one of the two canvases, as anchors of torchvision become constants in a trace. All of
    the canvas counts as image. Masks are left out, and the mask branch of Mask R-CNN with them.

    Args:
        detector: In evaluation mode, on the CPU.
        description: For the metadata.
        portrait: Which of the canvases.
    """
    height, width = canvas_size(detector.long, detector.short, portrait=portrait)
    images = torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's own code, which is meant to be traced
        content = traced(_AsOurs(detector).eval(), images, torch.tensor([[height, width]]), axes={})
    return described(content, description)


class _AsOurs(nn.Module):
    """torchvision's detector on one image, with its detections in a fixed number of slots."""

    def __init__(self, detector: ReferenceDetector) -> None:
        super().__init__()
        self.model: Any = deepcopy(detector.model)
        self.model.transform = _WholeCanvas(self.model.transform)
        limited = self.model if isinstance(self.model, RetinaNet) else self.model.roi_heads
        self.slots: int = limited.detections_per_img  # type: ignore[assignment, union-attr]

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect objects in uint8 Tensor[1, 3, H, W]."""
        (found,) = self.model([images[0].float() / 255])
        boxes, labels, scores = (found[name] for name in ("boxes", "labels", "scores"))
        count = torch.ones_like(labels).sum()[None]
        return (
            torch.cat((boxes, boxes.new_zeros(self.slots, 4)))[None, : self.slots],
            torch.cat((labels, labels.new_zeros(self.slots)))[None, : self.slots],
            torch.cat((scores, scores.new_zeros(self.slots)))[None, : self.slots],
            count + 0 * sizes[0, 0],  # the exporter drops an input that nothing needs
        )


class _WholeCanvas(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalises images that fill the canvas.

    The one of :mod:`smnas_optuna.models.reference` writes into a canvas, which a trace does not see.
    """

    def __init__(self, like: GeneralizedRCNNTransform) -> None:
        super().__init__(like.min_size[0], like.max_size, like.image_mean, like.image_std)

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        """Return the images as a batch."""
        batch = torch.stack([self.normalize(image) for image in images])
        return ImageList(batch, [(image.shape[-2], image.shape[-1]) for image in images]), targets

    def postprocess(self, result: Any, _image_shapes: Any, _original_image_sizes: Any) -> Any:
        """Return the detections unchanged."""
        return result
