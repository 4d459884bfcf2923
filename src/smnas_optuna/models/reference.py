"""torchvision's own detectors as they come, to be timed beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN,
    RetinaNet,
    fasterrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    retinanet_resnet50_fpn,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import Bottleneck

from smnas_optuna.arch.spec import InputSize
from smnas_optuna.batch import CANVAS_MULTIPLE, Batch, canvas_size
from smnas_optuna.errors import ArchError
from smnas_optuna.models.detector import MEAN, STD

BOX_BINS, MASK_BINS = 7, 14
"""Bins of a RoI in each direction, of torchvision's box heads and mask heads."""


def fasterrcnn_resnet101_fpn(*, weights: None, weights_backbone: None, num_classes: int, **options: Any) -> FasterRCNN:
    """As torchvision's ``fasterrcnn_resnet50_fpn``, which it has no deeper one of; ``num_classes`` has background."""
    assert weights is None  # there are none
    backbone = resnet_fpn_backbone(
        backbone_name="resnet101", weights=weights_backbone, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    return FasterRCNN(backbone, num_classes=num_classes, **options)


REFERENCE_DETECTORS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            fasterrcnn_resnet50_fpn,
            fasterrcnn_resnet101_fpn,
            retinanet_resnet50_fpn,
            maskrcnn_resnet50_fpn,
        )
    }
)
"""Name -> torchvision's builder, or one of torchvision's parts."""


def build_reference_detector(
    name: str, num_classes: int, *, long: int, short: int, score_threshold: float | None = None
) -> ReferenceDetector:
    """The detector ``name`` as torchvision has it, with its own constants and random weights, in evaluation mode.

    It is for time and size alone. Its proposals are as many as a trained one's, as residual branches begin at 0.
    (An untrained BatchNorm normalises nothing in evaluation mode: features of the random ResNet-101 would have a
    standard deviation of 3e4, and no proposal would be left.) Its detections are not: random scores of a two-stage
    detector are all about 1 / (classes + 1), so that with 20 classes or more hardly one passes the threshold of
    0.05, and Mask R-CNN's mask branch has nothing to do, while with fewer all of them pass. For such times load
    trained weights into ``model``, or let all pass with a ``score_threshold`` of 0.

    Args:
        name: One of ``REFERENCE_DETECTORS``.
        num_classes: Foreground classes.
        long: Long edge of the input size, pixels; images are resized before they come.
        short: Short edge of the input size, pixels.
        score_threshold: Takes the place of torchvision's.

    Raises:
        ArchError: If there is no detector of that name, or no such input size.
    """
    if name not in REFERENCE_DETECTORS:
        raise ArchError(
            f"reference detector: {name!r} is not known", fix=f"take one of {', '.join(sorted(REFERENCE_DETECTORS))}"
        )
    size = InputSize(long=long, short=short)
    model: Any = REFERENCE_DETECTORS[name](weights=None, weights_backbone=None, num_classes=num_classes + 1)
    for block in model.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)  # torchvision's zero_init_residual, which its builders do not hand on
    if score_threshold is not None:
        (model if isinstance(model, RetinaNet) else model.roi_heads).score_thresh = score_threshold
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
        model.transform = _AsGiven(size)

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Boxes Tensor[D, 4] in pixels of the original images, labels and scores Tensor[D], highest score first.

        Mask R-CNN has masks Tensor[D, 1, H, W] as well. The backbone sees the canvas of the input size, as in our
        detectors, whatever the shape of the image on it.
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
    """Normalises images and puts them on their canvas; they are resized already, and boxes stay in their pixels."""

    def __init__(self, size: InputSize) -> None:
        super().__init__(size.short, size.long, list(MEAN), list(STD))
        self.size = size

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """Tensor[B, 3, H, W] of the input size, of images of one orientation."""
        assert size_divisible == CANVAS_MULTIPLE
        height, width = images[0].shape[-2:]
        canvas = canvas_size(self.size.long, self.size.short, portrait=height > width)
        batched = images[0].new_zeros(len(images), 3, *canvas)
        for place, image in zip(batched, images, strict=True):
            place[:, : image.shape[-2], : image.shape[-1]] = image
        return batched

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
