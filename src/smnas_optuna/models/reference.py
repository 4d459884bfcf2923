"""torchvision's own detectors as they come, to be timed beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    RetinaNet,
    fasterrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    retinanet_resnet50_fpn,
)
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from smnas_optuna.arch.spec import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.errors import ArchError
from smnas_optuna.models.detector import MEAN, STD

BOX_BINS, MASK_BINS = 7, 14
"""Bins of a RoI in each direction, of torchvision's box heads and mask heads."""

REFERENCE_DETECTORS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {build.__name__: build for build in (fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn, maskrcnn_resnet50_fpn)}
)
"""Name -> torchvision's builder."""


def build_reference_detector(name: str, num_classes: int, *, long: int, short: int) -> ReferenceDetector:
    """The detector ``name`` as torchvision has it, with its own constants and random weights, in evaluation mode.

    It is for time and size alone. Its proposals are as many as a trained one's. Its detections are not: random scores
    of a two-stage detector are all about 1 / (classes + 1), so that with 20 classes or more hardly one passes the
    threshold of 0.05, and Mask R-CNN's mask branch has nothing to do, while with fewer all of them pass. For such times
    load trained weights into ``model``.

    Args:
        name: One of ``REFERENCE_DETECTORS``.
        num_classes: Foreground classes.
        long: Long edge of the input size, pixels; images are resized before they come.
        short: Short edge of the input size, pixels.

    Raises:
        ArchError: If there is no detector of that name, or no such input size.
    """
    if name not in REFERENCE_DETECTORS:
        raise ArchError(
            f"reference detector: {name!r} is not known", fix=f"take one of {', '.join(sorted(REFERENCE_DETECTORS))}"
        )
    size = InputSize(long=long, short=short)
    model = REFERENCE_DETECTORS[name](weights=None, weights_backbone=None, num_classes=num_classes + 1)
    return ReferenceDetector(model, size).eval()


class ReferenceDetector(nn.Module):
    """One of torchvision's detectors behind the part of our detectors' interface that is timed and counted.

    Args:
        model: Faster R-CNN, Mask R-CNN or RetinaNet; its own resizing is taken out.
        size: Input size.
    """

    def __init__(self, model: nn.Module, size: InputSize) -> None:
        super().__init__()
        self.model = model
        self.long, self.short = size.long, size.short
        model.transform = _AsGiven(self.short, self.long, list(MEAN), list(STD))

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Boxes Tensor[D, 4] in pixels of the original images, labels and scores Tensor[D], highest score first.

        Mask R-CNN has masks Tensor[D, 1, H, W] as well. As in torchvision, the canvas is that of the batch's largest
        image rather than that of the input size.
        """
        scale = 255.0 if batch.images.dtype == torch.uint8 else 1.0
        sizes = [(height, width) for height, width in batch.sizes.tolist()]
        images = [image[:, :height, :width] / scale for image, (height, width) in zip(batch.images, sizes, strict=True)]
        found = self.model(images)
        original = [(height, width) for height, width in batch.original_sizes.tolist()]
        return GeneralizedRCNNTransform.postprocess(self.model.transform, found, sizes, original)  # type: ignore[no-any-return]

    def fixed_work(self, images: Tensor) -> None:
        """Run every layer once on Tensor[1, 3, H, W], on as many RoIs as there are at most, to be counted."""
        model: Any = self.model
        features = list(model.backbone(images).values())
        if isinstance(model, RetinaNet):
            model.head(features)
            return
        model.rpn.head(features)
        heads, channels = model.roi_heads, features[0].shape[1]
        rois = images.new_zeros(model.rpn.post_nms_top_n(), channels, BOX_BINS, BOX_BINS)
        heads.box_predictor(heads.box_head(rois))
        if heads.has_mask():
            masked = images.new_zeros(heads.detections_per_img, channels, MASK_BINS, MASK_BINS)
            heads.mask_predictor(heads.mask_head(masked))


class _AsGiven(GeneralizedRCNNTransform):
    """Normalises and batches images; they are resized already, and boxes stay in their pixels."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The image as it is."""
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        _image_shapes: list[tuple[int, int]],
        _original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """The detections as they are."""
        return result
