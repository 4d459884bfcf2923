"""torchvision's own detectors, unchanged, for latency comparisons with ours."""

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
"""Bins of a RoI per axis in torchvision's box heads and mask heads."""


def fasterrcnn_resnet101_fpn(*, weights: None, weights_backbone: None, num_classes: int, **options: Any) -> FasterRCNN:
    """Build ``fasterrcnn_resnet50_fpn`` with ResNet-101, which torchvision lacks; classes include background."""
    assert weights is None  # none exist
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
"""Builders by name: torchvision's, or one that is made of torchvision's parts."""


def build_reference_detector(
    name: str, num_classes: int, *, long: int, short: int, score_threshold: float | None = None
) -> ReferenceDetector:
    """Build torchvision's detector ``name`` with its own constants and random weights, in evaluation mode.

    It is only meant for measuring latency and size. It has as many proposals as a trained detector, because residual
    branches start at 0. (An untrained BatchNorm normalises nothing in evaluation mode: features of the random
    ResNet-101 would have a standard deviation of 3e4, and no proposal would be left.) Its number of detections is not
    realistic. Random scores of a two-stage detector are all about 1 / (classes + 1): with 20 classes or more hardly
    any passes the threshold of 0.05, and Mask R-CNN's mask branch has no work; with fewer classes all of them pass. To
    time these parts, load trained weights into ``model``, or set ``score_threshold`` to 0 so that all pass.

    Args:
        name: One of ``REFERENCE_DETECTORS``.
        num_classes: Number of foreground classes.
        long: Long edge of the input size, pixels. Images must already be resized.
        short: Short edge of the input size, pixels.
        score_threshold: Replaces torchvision's threshold.

    Raises:
        ArchError: If there is no detector of that name, or the input size is out of range.
    """
    if name not in REFERENCE_DETECTORS:
        raise ArchError(
            f"reference detector: {name!r} is not known", fix=f"take one of {', '.join(sorted(REFERENCE_DETECTORS))}"
        )
    size = InputSize(long=long, short=short)
    model: Any = REFERENCE_DETECTORS[name](weights=None, weights_backbone=None, num_classes=num_classes + 1)
    for block in model.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)  # torchvision's zero_init_residual, which its builders do not offer
    if score_threshold is not None:
        (model if isinstance(model, RetinaNet) else model.roi_heads).score_thresh = score_threshold
    return ReferenceDetector(model, size).eval()


class ReferenceDetector(nn.Module):
    """Wrapper of a torchvision detector with the part of our interface that measures latency and operations.

    Args:
        model: Faster R-CNN, Mask R-CNN or RetinaNet; its own resizing is removed.
        size: Input size.
    """

    def __init__(self, model: nn.Module, size: InputSize) -> None:
        super().__init__()
        self.model = model
        self.long, self.short = size.long, size.short
        model.transform = _AsGiven(size)

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Detect objects in each image of ``batch``, highest score first.

        Boxes are Tensor[D, 4] in pixels of the original image; labels and scores are Tensor[D]. Mask R-CNN also returns
        masks Tensor[D, 1, H, W]. The input of the backbone is the canvas of the input size, as in our detectors,
        whatever the shape of the image on it.
        """
        scale = 255.0 if batch.images.dtype == torch.uint8 else 1.0
        sizes = [(height, width) for height, width in batch.sizes.tolist()]
        images = [image[:, :height, :width] / scale for image, (height, width) in zip(batch.images, sizes, strict=True)]
        found = self.model(images)
        original = [(height, width) for height, width in batch.original_sizes.tolist()]
        return GeneralizedRCNNTransform.postprocess(self.model.transform, found, sizes, original)  # type: ignore[no-any-return]

    def fixed_work(self, images: Tensor) -> None:
        """Run every layer once on Tensor[1, 3, H, W], with the maximum number of RoIs, to count the operations."""
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
    """Normalises resized images and puts them on the canvas of the input size; boxes stay in pixels of the canvas."""

    def __init__(self, size: InputSize) -> None:
        super().__init__(size.short, size.long, list(MEAN), list(STD))
        self.size = size

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """Stack images of one orientation on the canvas of the input size, Tensor[B, 3, H, W]."""
        assert size_divisible == CANVAS_MULTIPLE
        height, width = images[0].shape[-2:]
        canvas = canvas_size(self.size.long, self.size.short, portrait=height > width)
        batched = images[0].new_zeros(len(images), 3, *canvas)
        for place, image in zip(batched, images, strict=True):
            place[:, : image.shape[-2], : image.shape[-1]] = image
        return batched

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return the image unchanged."""
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        _image_shapes: list[tuple[int, int]],
        _original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return the detections unchanged."""
        return result
