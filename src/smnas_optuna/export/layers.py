"""Layers of a detector in other forms, with the same values and fewer or faster operators of ONNX.

All of them work on a copy of a detector that is its own, and change it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from smnas_optuna.export.operators import normalize
from smnas_optuna.export.sizes import as_tensor
from smnas_optuna.models.boxes import MAX_GROWTH
from smnas_optuna.models.guided import LOCATION_THRESHOLD, MAX_OFFSET, SHAPE_WEIGHTS, GuidedRpn
from smnas_optuna.models.proposals import flatten_level
from smnas_optuna.models.roi_head import BoxPredictor

NEVER = -3e38
"""Logit of what may not be proposed."""


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
        self.register_buffer("mean", torch.zeros_like(norm.weight), persistent=False)
        self.register_buffer("variance", torch.ones_like(norm.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, C, H, W]."""
        normal = normalize(x.reshape(x.shape[0], self.groups, -1), self.groups, self.eps).reshape(x.shape)
        return F.batch_norm(normal, self.mean, self.variance, self.weight, self.bias, eps=0.0)


class AnchorLayers(nn.Module):
    """An RPN's layers with one convolution for objectness and box."""

    def __init__(self, head: RPNHead) -> None:
        super().__init__()
        self.conv = head.conv
        scores, boxes = head.cls_logits, head.bbox_pred
        anchors = scores.out_channels
        self.predictor = nn.Conv2d(scores.in_channels, 5 * anchors, 1)
        for name in ("weight", "bias"):
            logit, deltas = getattr(scores, name)[:, None], getattr(boxes, name).unflatten(0, (anchors, 4))
            setattr(self.predictor, name, _frozen(torch.cat((logit, deltas), dim=1).flatten(0, 1)))

    def forward(self, each: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and deltas of ``anchors``, Tensor[A, 4], in a map Tensor[B, C, H, W]: Tensor[B, A, 5]."""
        return flatten_level(self.predictor(self.conv(each)), 5), anchors


class GuidedLayers(nn.Module):
    """The layers of a guided RPN with one convolution for location and shape, and one for objectness and box.

    Where :mod:`smnas_optuna.models.deform` computes the coordinates of all samples, here they are a constant and the
    offsets, whose channels are in the order that GridSample wants.
    """

    def __init__(self, rpn: GuidedRpn) -> None:
        super().__init__()
        self.conv = rpn.conv
        self.places = _merged(rpn.location, rpn.shape)
        self.predictor = _merged(rpn.cls_logits, rpn.bbox_pred)
        self.offset = rpn.offset
        offsets = (
            self.offset.weight.view(-1, 2, *self.offset.weight.shape[1:]).flip(1).flatten(0, 1)
        )  # (y, x) -> (x, y)
        self.offset.weight = _frozen(offsets)
        self.kernel = rpn.adaption.kernel_size[0]
        self.groups = len(offsets) // (2 * self.kernel**2)
        self.channels = rpn.adaption.in_channels
        self.adaption = _frozen(rpn.adaption.weight.flatten(1))
        self.likely = math.log(LOCATION_THRESHOLD / (1 - LOCATION_THRESHOLD))

    def forward(self, each: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and deltas Tensor[B, H * W, 5] of guided anchors, and these, Tensor[B, H * W, 4].

        Args:
            each: Tensor[B, C, H, W].
            squares: Tensor[H * W, 4], the reference of the predicted shapes.
        """
        x = F.relu(self.conv(each))
        places = self.places(x)
        location, shape = places[:, :1], places[:, 1:]
        outputs = flatten_level(self.predictor(F.relu(self._adapted(x, self.offset(shape)))), 5)
        logits = torch.where(flatten_level(location, 1) >= self.likely, outputs[..., :1], NEVER)
        return torch.cat((logits, outputs[..., 1:]), dim=-1), _guided(squares, flatten_level(shape, 2))

    def _adapted(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve ``x`` at ``offset``; see :func:`smnas_optuna.models.deform.deform_conv`."""
        batch, _, height, width = x.shape
        taps = self.kernel**2
        reach = torch.arange(self.kernel) - self.kernel // 2
        columns = reach.repeat(self.kernel)[:, None, None] + torch.arange(width)
        rows = reach[:, None].expand(-1, self.kernel).reshape(-1, 1, 1) + torch.arange(height)[:, None]
        size = torch.stack((as_tensor(width), as_tensor(height))).to(x.dtype)
        at = torch.stack((columns + torch.zeros_like(rows), rows + torch.zeros_like(columns)), dim=-1)
        at = ((2 * at + 1) / size - 1).reshape(-1, width, 2)
        offset = offset.clamp(-MAX_OFFSET, MAX_OFFSET).reshape(batch * self.groups, taps, 2, height, width)
        grid = offset.permute(0, 1, 3, 4, 2).reshape(batch * self.groups, -1, width, 2) * (2 / size) + at
        split = x.reshape(batch * self.groups, self.channels // self.groups, height, width)
        samples = F.grid_sample(split, grid, padding_mode="zeros", align_corners=False)
        return (self.adaption @ samples.reshape(batch, self.channels * taps, -1)).reshape(batch, -1, height, width)


def _guided(squares: Tensor, shape: Tensor) -> Tensor:
    """Return the guided anchors, Tensor[B, A, 4]: squares of predicted ``shape``, Tensor[B, A, 2]; centres stay."""
    sizes = squares[:, 2:] - squares[:, :2]
    centres = squares[:, :2] + 0.5 * sizes
    _, _, width, height = SHAPE_WEIGHTS
    assert width == height
    half = (shape / width).clamp(max=MAX_GROWTH).exp() * (0.5 * sizes)
    return torch.cat((centres - half, centres + half), dim=-1)


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


def _merged(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Return a 1x1 convolution with the channels of both."""
    merged = nn.Conv2d(first.in_channels, first.out_channels + second.out_channels, 1)
    for name in ("weight", "bias"):
        setattr(merged, name, _frozen(torch.cat((getattr(first, name), getattr(second, name)))))
    return merged


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
