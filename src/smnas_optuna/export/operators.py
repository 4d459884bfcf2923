"""ONNX operators that torch has no like of, as functions that run in torch and are traced as the operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms, roi_align

from smnas_optuna.export.sizes import constants_are_meant, known
from smnas_optuna.models.roi_align import SAMPLES


def non_max_suppression(boxes: Tensor, scores: Tensor, *, limit: int, iou: float, score_threshold: Tensor) -> Tensor:
    """Return what NMS keeps in every class of every image, int64 Tensor[S, 3]: (image, class, box).

    Images come in ascending order, and so do the classes of an image.

    Args:
        boxes: Tensor[B, N, 4], shared by all classes.
        scores: Tensor[B, C, N].
        limit: Maximum number of boxes that are kept of a class; the best ones.
        iou: A box is dropped if its IoU with a kept one of its class and a higher score is more than this.
        score_threshold: Tensor[1]; boxes with a score at or below this are neither kept nor do they suppress others.
    """
    return _NonMaxSuppression.apply(boxes, scores, limit, iou, score_threshold)  # type: ignore[no-any-return]


def top_k(values: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest ``count`` values of each row, Tensor[B, N] -> Tensor[B, count], and their places; best first.

    Of equal values the first ones come first.

    Args:
        values: Tensor[B, N].
        count: int64 Tensor[1], 0..N.
    """
    return _TopK.apply(values, count)  # type: ignore[no-any-return]


def align_rois(feature: Tensor, rois: Tensor, images: Tensor, *, bins: int, scale: float) -> Tensor:
    """Pool ``rois`` from one level as torchvision's ``roi_align`` does: Tensor[R, C, bins, bins].

    Args:
        feature: Tensor[B, C, H, W].
        rois: Tensor[R, 4] in pixels of the canvas; R may be 0.
        images: int64 Tensor[R], number of the image of each RoI.
        bins: Bins per axis.
        scale: Pixels of the level per pixel of the canvas.
    """
    return _RoiAlign.apply(feature, rois, images, bins, scale)  # type: ignore[no-any-return]


def normalize(x: Tensor, channels: int, eps: float) -> Tensor:
    """Return Tensor[B, channels, N] with a mean of 0 and a variance of 1 over each row; ``eps`` is added to that."""
    return _InstanceNorm.apply(x, channels, eps)  # type: ignore[no-any-return]


class _NonMaxSuppression(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, boxes: Tensor, scores: Tensor, limit: int, iou: float, score_threshold: Tensor) -> Tensor:
        rows = [boxes.new_zeros(0, 3, dtype=torch.int64)]
        for image in range(scores.shape[0]):
            for label in range(scores.shape[1]):
                places = (scores[image, label] > score_threshold).nonzero()[:, 0]
                kept = places[nms(boxes[image, places], scores[image, label, places], iou)[:limit]]
                rows.append(torch.stack((torch.full_like(kept, image), torch.full_like(kept, label), kept), dim=1))
        return torch.cat(rows)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, limit: int, iou: float, score_threshold: Any) -> Any:
        numbers = (g.op("Constant", value_t=number) for number in (torch.tensor([limit]), torch.tensor([iou])))
        return g.op("NonMaxSuppression", boxes, scores, *numbers, score_threshold)


class _TopK(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        ordered, places = values.sort(dim=1, descending=True, stable=True)
        first = known(count)  # the operator itself has no such constant
        return ordered[:, :first], places[:, :first]

    @staticmethod
    def symbolic(g: Any, values: Any, count: Any) -> Any:
        return g.op("TopK", values, count, axis_i=1, outputs=2)


class _RoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, feature: Tensor, rois: Tensor, images: Tensor, bins: int, scale: float) -> Tensor:
        numbered = torch.cat((images[:, None].to(rois.dtype), rois), dim=1)
        with constants_are_meant():  # torchvision's checks; the operator has none
            return roi_align(feature, numbered, bins, scale, SAMPLES)  # type: ignore[no-any-return]

    @staticmethod
    def symbolic(g: Any, feature: Any, rois: Any, images: Any, bins: int, scale: float) -> Any:
        return g.op(
            "RoiAlign",
            feature,
            rois,
            images,
            coordinate_transformation_mode_s="output_half_pixel",
            output_height_i=bins,
            output_width_i=bins,
            sampling_ratio_i=SAMPLES,
            spatial_scale_f=scale,
        )


class _InstanceNorm(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor, _channels: int, eps: float) -> Tensor:
        return torch.instance_norm(x, None, None, None, None, True, 0.0, eps, False)

    @staticmethod
    def symbolic(g: Any, x: Any, channels: int, eps: float) -> Any:
        scale, shift = (g.op("Constant", value_t=fill(channels)) for fill in (torch.ones, torch.zeros))
        return g.op("InstanceNormalization", x, scale, shift, epsilon_f=eps)
