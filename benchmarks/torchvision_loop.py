"""Torchvision's reference training: its Faster R-CNN around our backbone and pyramid, list contract, DataLoader."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms.v2.functional import horizontal_flip, pil_to_tensor

from smnas_optuna.arch import DetectorConstants, DetectorSpec, FcHeadSpec, NeckSpec
from smnas_optuna.data import CocoDataset
from smnas_optuna.models import Detector

Target = dict[str, Tensor]


class Trunk(nn.Module):
    """Our backbone and neck under the contract of torchvision's backbones."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone, self.neck, self.out_channels = backbone, neck, channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Tensor[B, 3, H, W] -> {p<l>: Tensor}; in float32, as torchvision's heads need it under autocast."""
        return OrderedDict((name, level.float()) for name, level in self.neck(self.backbone(images)).items())


def torchvision_detector(
    ours: Detector, spec: DetectorSpec, num_classes: int, constants: DetectorConstants
) -> FasterRCNN:
    """Torchvision's Faster R-CNN with a copy of the backbone and neck of ``ours``: RPN and 2-FC head.

    Its heads have the sizes, anchors, samples and thresholds of ours.
    """
    neck, head = spec.neck, spec.head
    assert isinstance(neck, NeckSpec)
    assert isinstance(head, FcHeadSpec)
    assert head.width is not None
    levels = range(neck.min_level, neck.max_level + 1)
    pooled = [f"p{level}" for level in levels if level <= 5]
    return FasterRCNN(
        Trunk(copy.deepcopy(ours.backbone), copy.deepcopy(ours.neck), neck.channels),
        min_size=spec.input_size.short,
        max_size=spec.input_size.long,
        rpn_anchor_generator=AnchorGenerator(
            tuple((constants.anchor_scale * 2**level,) for level in levels), ((0.5, 1.0, 2.0),) * len(levels)
        ),
        rpn_pre_nms_top_n_train=constants.train_proposals,
        rpn_post_nms_top_n_train=constants.train_proposals,
        rpn_pre_nms_top_n_test=constants.test_proposals,
        rpn_post_nms_top_n_test=constants.test_proposals,
        rpn_batch_size_per_image=constants.rpn_samples,
        box_roi_pool=MultiScaleRoIAlign(pooled, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(neck.channels * 49, head.width),
        box_predictor=FastRCNNPredictor(head.width, num_classes + 1),
        box_batch_size_per_image=constants.roi_samples,
        box_score_thresh=constants.score_threshold,
        box_nms_thresh=constants.nms_iou,
        box_detections_per_img=constants.max_detections,
    )


class ListedImages(Dataset[tuple[Tensor, Target]]):
    """Images read from disk one by one, mirrored at random, with boxes in their own pixels."""

    def __init__(self, dataset: CocoDataset, flip: float) -> None:
        self.images = [image for image in dataset.images if len(image.boxes)]
        self.flip = flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """An image in [0, 1] and its target."""
        record = self.images[index]
        with Image.open(record.path) as file:
            image = pil_to_tensor(file.convert("RGB")).float() / 255
        boxes, labels = torch.as_tensor(record.boxes).float(), torch.as_tensor(record.labels).long()
        if torch.rand(()) < self.flip:
            image = horizontal_flip(image)
            boxes = torch.stack(
                (image.shape[-1] - boxes[:, 2], boxes[:, 1], image.shape[-1] - boxes[:, 0], boxes[:, 3]), dim=1
            )
        return image, {"boxes": boxes, "labels": labels}


def listed_batches(dataset: CocoDataset, batch_size: int, flip: float, workers: int) -> DataLoader[Any]:
    """Shuffled lists of images and targets, a full batch at a time."""
    return DataLoader(
        ListedImages(dataset, flip),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)),
        drop_last=True,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def torchvision_step(
    detector: FasterRCNN, batch: tuple[list[Tensor], list[Target]], optimizer: torch.optim.Optimizer, *, bf16: bool
) -> float:
    """Loss of one step of torchvision's reference loop, which reads it, too; with the clipping of our loop."""
    device = next(detector.parameters()).device
    images = [image.to(device, non_blocking=True) for image in batch[0]]
    targets = [{name: value.to(device, non_blocking=True) for name, value in each.items()} for each in batch[1]]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        losses: dict[str, Tensor] = detector(images, targets)
    loss = torch.stack(list(losses.values())).sum()
    value = float(loss.item())
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
    optimizer.step()
    return value
