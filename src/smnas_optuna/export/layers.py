"""Layers of a detector in other forms, with the same values and fewer or faster operators of ONNX.

All of them work on a copy of a detector that is its own, and change it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from smnas_optuna.export.operators import normalize
from smnas_optuna.models.proposals import flatten_level
from smnas_optuna.models.roi_head import BoxPredictor


class InstanceThenScale(nn.Module):
    """GroupNorm as ONNX's InstanceNormalization of the groups, and BatchNormalization for weight and bias.

    That is one pass over the channels less than a product and a sum, which GroupNorm is exported as.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.register_buffer("weight", norm.weight.detach())
        self.register_buffer("bias", norm.bias.detach())
        self.register_buffer("mean", torch.zeros_like(norm.weight))
        self.register_buffer("variance", torch.ones_like(norm.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, C, H, W]."""
        normal = normalize(x.reshape(x.shape[0], self.groups, -1), self.groups, self.eps).reshape(x.shape)
        return F.batch_norm(normal, self.mean, self.variance, self.weight, self.bias, eps=0.0)


class AnchorLayers(nn.Module):
    """An RPN's layers with one convolution for objectness and box: map -> (logit, deltas) of every anchor."""

    def __init__(self, head: RPNHead) -> None:
        super().__init__()
        self.conv = head.conv
        scores, boxes = head.cls_logits, head.bbox_pred
        anchors = scores.out_channels
        self.predictor = nn.Conv2d(scores.in_channels, 5 * anchors, 1)
        for name in ("weight", "bias"):
            logit, deltas = getattr(scores, name)[:, None], getattr(boxes, name).unflatten(0, (anchors, 4))
            setattr(self.predictor, name, _frozen(torch.cat((logit, deltas), dim=1).flatten(0, 1)))

    def forward(self, each: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, H * W * anchors per place, 5], location by location."""
        return flatten_level(self.predictor(self.conv(each)), 5)


class StageLayers(nn.Module):
    """A stage of an RoI head with one layer for classes and boxes, the boxes without that of the background.

    Args:
        stage: A stage of :class:`smnas_optuna.models.roi_head.RoiHead`.
        bins: Bins of a RoI per axis.

    Attributes:
        num_classes: Classes with the background.
        takes_bins: True if it takes pooled features (y, x, channel), False if it takes the output of the trunk.
    """

    def __init__(self, stage: nn.Module, bins: int) -> None:
        super().__init__()
        self.takes_bins = isinstance(stage, nn.Sequential)
        if isinstance(stage, nn.Sequential):
            layers, predictor = stage
            assert isinstance(layers, TwoMLPHead)
            weight = layers.fc6.weight.unflatten(1, (-1, bins, bins)).permute(0, 2, 3, 1).flatten(1)
            layers.fc6.weight = _frozen(weight)
            self.layers: nn.Module = layers
        else:
            self.layers, predictor = nn.Identity(), stage
        assert isinstance(predictor, BoxPredictor)
        scores, boxes = predictor.cls_score, predictor.bbox_pred
        self.num_classes = scores.out_features
        first = 4 if boxes.out_features > 4 else 0  # of the background
        self.predictor = nn.Linear(scores.in_features, scores.out_features + boxes.out_features - first)
        for name in ("weight", "bias"):
            setattr(self.predictor, name, _frozen(torch.cat((getattr(scores, name), getattr(boxes, name)[first:]))))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits and deltas of each RoI, Tensor[R, num_classes + 4 or 4 * (num_classes - 1)]."""
        return self.predictor(self.layers(x))  # type: ignore[no-any-return]


def replace_norms(module: nn.Module) -> None:
    """Replace every GroupNorm inside ``module``."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, InstanceThenScale(child))


def scale_input(backbone: nn.Module, scale: Tensor) -> None:
    """Multiply the weights of the first convolution, so that its input need not be; ``scale`` is Tensor[3, 1, 1]."""
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == len(scale)
    first.weight = _frozen(first.weight * scale)


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().contiguous(), requires_grad=False)
