"""Region proposals by Guided Anchoring (Wang et al. 2019): the network predicts locations and shapes of anchors.

For every location of the map it predicts a score that an object's centre lies there, and the shape of one anchor. A
deformable convolution adapts the features to that shape. Objectness and box are predicted from the adapted features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from smnas_optuna.batch import Batch
from smnas_optuna.models.anchors import PyramidAnchors
from smnas_optuna.models.assign import Matches, Purpose, RandomKeys, match, mean_over_images, random_keys, sample
from smnas_optuna.models.boxes import Weights, decode_boxes, gather_rows, pairwise_iou
from smnas_optuna.models.deform import deform_conv
from smnas_optuna.models.losses import focal_losses, shape_losses
from smnas_optuna.models.proposals import LevelOutput, Proposals, flatten_level, select_proposals
from smnas_optuna.models.rpn import NEGATIVE_IOU, POSITIVE_IOU, POSITIVE_SHARE, proposal_losses

CENTRE_RATIO, IGNORE_RATIO = 0.2, 0.5
"""Shares of a box's edges: locations in the inner region are its centre, those in the outer region are ignored."""
LOCATION_THRESHOLD = 0.01
"""Locations with a score below this propose nothing in detection."""
OFFSET_GROUPS = 4
MAX_OFFSET = 1e4
"""Maximum offset in pixels of the map; it is beyond any map, and values outside of a map are 0."""
SHAPE_WEIGHTS = (1 / 0.07, 1 / 0.07, 1 / 0.14, 1 / 0.14)
BOX_WEIGHTS = (1 / 0.07, 1 / 0.07, 1 / 0.11, 1 / 0.11)
"""Inverse standard deviations of the predicted shapes and boxes. All these constants are those of the paper's code."""


class GuidedRpn(nn.Module):
    """RPN with Guided Anchoring; see the module.

    Layers: a 3x3 convolution, location (1 channel), shape (2), adaption, objectness (1) and box (4).

    Args:
        channels: Channels of every level.
        levels: Pyramid levels; level ``l`` has stride ``2**l``.
        squares: One square per location, the reference of the predicted shapes.
        approximate: Anchors that approximate the shapes that can be predicted at a location; for the shape targets.
        samples: Locations per image that are sampled for the shape and box losses.
        proposals: Maximum number of proposals per image, in training and in detection.
        keys: Random numbers that choose the samples.

    Attributes:
        box_weights: Weights of the box coding.
    """

    box_weights: Weights = BOX_WEIGHTS

    def __init__(
        self,
        channels: int,
        levels: Sequence[int],
        squares: PyramidAnchors,
        approximate: PyramidAnchors,
        *,
        samples: int,
        proposals: int,
        keys: RandomKeys = random_keys,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.location = nn.Conv2d(channels, 1, 1)
        self.shape = nn.Conv2d(channels, 2, 1)
        groups = math.gcd(OFFSET_GROUPS, channels)
        self.offset = nn.Conv2d(2, groups * 2 * 3 * 3, 1, bias=False)
        self.adaption = DeformConv2d(channels, channels, 3, padding=1, bias=False)
        self.cls_logits = nn.Conv2d(channels, 1, 1)
        self.bbox_pred = nn.Conv2d(channels, 4, 1)
        for layer in (self.conv, self.location, self.shape, self.adaption, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.offset.weight, std=0.1)
        nn.init.constant_(self.location.bias, -math.log(99))  # type: ignore[arg-type]  # a score of 0.01, as RetinaNet's
        self.levels = tuple(levels)
        self.squares, self.approximate = squares, approximate
        self.samples = samples
        self.num_proposals = proposals
        self.keys = keys

    def propose(self, features: dict[str, Tensor], batch: Batch, *, fixed_time: bool = False) -> Proposals:
        """Return proposals for detection, from likely object centres only; see :func:`select_proposals`."""
        return select_proposals(
            self.outputs(features), batch.sizes, self.num_proposals, weights=self.box_weights, fixed_time=fixed_time
        )

    def outputs(self, features: dict[str, Tensor]) -> list[LevelOutput]:
        """Return the outputs of every level that proposals for detection are selected from: likely centres only."""
        outputs, _, locations = self._outputs(features)
        return [
            replace(output, logits=output.logits.masked_fill(location.sigmoid() < LOCATION_THRESHOLD, -math.inf))
            for output, location in zip(outputs, locations, strict=True)
        ]

    def losses(self, features: dict[str, Tensor], batch: Batch) -> tuple[dict[str, Tensor], Proposals]:
        """Return losses by name, each Tensor[], and proposals for training, through which no gradient flows."""
        maps = list(features.values())
        outputs, shapes, locations = self._outputs(features)
        matches = self.shape_targets(maps, batch)
        places = matches.index.shape[1]
        shape_keys, box_keys = (
            self.keys(batch.seeds, purpose, places) for purpose in (Purpose.SHAPE_SAMPLES, Purpose.GUIDED_SAMPLES)
        )
        chosen = sample(matches.positive, matches.negative, self.samples, POSITIVE_SHARE, shape_keys)
        predicted = gather_rows(torch.cat(shapes, dim=1), chosen.index)
        wanted = gather_rows(matches.boxes(batch), chosen.index)
        shape_loss = shape_losses(predicted, wanted, chosen.positive)
        guided = torch.cat([each.references for each in outputs], dim=1)
        anchored = match(batch, guided, high=POSITIVE_IOU, low=NEGATIVE_IOU, best_for_each_box=True)
        losses = {
            "loss_anchor_location": self._location_loss(maps, locations, batch),
            "loss_anchor_shape": mean_over_images(shape_loss, chosen.positive.sum(dim=1)),
            **proposal_losses(outputs, anchored, batch, self.samples, box_keys, BOX_WEIGHTS),
        }
        proposals = select_proposals(
            outputs, batch.sizes, self.num_proposals, weights=BOX_WEIGHTS, fixed_time=batch.images.is_cuda
        )
        return losses, proposals

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers once, to count their operations."""
        for each in features.values():
            self._layers(each)

    def shape_targets(self, maps: Sequence[Tensor], batch: Batch) -> Matches:
        """Match locations with boxes; the IoU of a location is the highest of its approximate anchors."""
        count = self.approximate.per_place
        anchors = torch.cat(self.approximate.of(maps))
        iou = pairwise_iou(batch.boxes, anchors)
        iou = iou.view(len(batch), -1, len(anchors) // count, count).amax(dim=-1)
        squares = torch.cat(self.squares.of(maps))
        return match(batch, squares, high=POSITIVE_IOU, low=NEGATIVE_IOU, best_for_each_box=True, iou=iou)

    def location_targets(self, maps: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return masks of the locations that are centres, and of those that are not ignored: bool Tensor[B, A] each.

        A box belongs to the level whose square is nearest to it in size. On that level the locations in its inner
        region are centres, and always the location nearest to its centre. On that level and the two adjacent ones
        the other locations in its outer region are ignored. A centre of one box takes precedence over the outer region
        of another. Locations in crowd regions are ignored, too.
        """
        edges = (batch.boxes[..., 2:] - batch.boxes[..., :2]).clamp(min=0)
        smallest = self.squares.sizes[0][0]
        level = torch.log2(edges.prod(dim=-1).sqrt().clamp(min=1e-6) / smallest).round()
        level = level.clamp(0, len(self.levels) - 1)
        centres, looked_at = [], []
        for number, each in enumerate(maps):
            stride = self.squares.strides[number]
            own, near = batch.objects & (level == number), batch.objects & ((level - number).abs() <= 1)
            places = _places(each, stride)
            inner = _inside(places, batch.boxes, CENTRE_RATIO) | _nearest(each, batch.boxes, stride)
            outer = _inside(places, batch.boxes, IGNORE_RATIO) & near[..., None]
            crowd = _inside(places, batch.boxes, 1.0) & batch.crowd[..., None]
            centre = (inner & own[..., None]).any(dim=1)
            centres.append(centre)
            looked_at.append(centre | ~(outer | crowd).any(dim=1))
        return torch.cat(centres, dim=1), torch.cat(looked_at, dim=1)

    def _location_loss(self, maps: Sequence[Tensor], locations: Sequence[Tensor], batch: Batch) -> Tensor:
        """Focal loss over all locations that are not ignored, divided by the number of centres, as in RetinaNet.

        The paper's code weighs the background by a constant instead.
        """
        centre, looked_at = self.location_targets(maps, batch)
        losses = focal_losses(torch.cat(list(locations), dim=1), centre) * looked_at
        return mean_over_images(losses, centre.sum(dim=1))

    def _layers(self, each: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return location, shape, objectness and box of one level's map."""
        x = F.relu(self.conv(each))
        location, shape = self.location(x), self.shape(x)
        # Detached as in the paper's code: shapes learn from their own loss alone. Offsets that are NaN or
        # very large name no place of the map.
        offset = self.offset(shape.detach()).nan_to_num(0.0).clamp(-MAX_OFFSET, MAX_OFFSET)
        adapted = F.relu(deform_conv(x, offset, self.adaption.weight))
        return location, shape, self.cls_logits(adapted), self.bbox_pred(adapted)

    def _outputs(self, features: dict[str, Tensor]) -> tuple[list[LevelOutput], list[Tensor], list[Tensor]]:
        """Return of every level: outputs relative to guided anchors, these anchors with gradient, location logits."""
        maps = list(features.values())
        outputs, anchors, locations = [], [], []
        for each, squares in zip(maps, self.squares.of(maps), strict=True):
            location, shape, logits, deltas = self._layers(each)
            shape = flatten_level(shape, 2)
            guided = decode_boxes(torch.cat((torch.zeros_like(shape), shape), dim=-1), squares, SHAPE_WEIGHTS)
            anchors.append(guided)
            locations.append(flatten_level(location, 1)[..., 0])
            outputs.append(
                LevelOutput(
                    logits=flatten_level(logits, 1)[..., 0],
                    deltas=flatten_level(deltas, 4),
                    references=guided.detach(),
                )
            )
        return outputs, anchors, locations


def _places(each: Tensor, stride: int) -> Tensor:
    """Return the places (x, y) of a map's locations, in pixels of the canvas: Tensor[H * W, 2].

    They are where the anchors of the locations are: location ``i`` at ``i`` strides, as in torchvision.
    """
    rows = torch.arange(each.shape[-2], device=each.device) * stride
    columns = torch.arange(each.shape[-1], device=each.device) * stride
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((grid[1].reshape(-1), grid[0].reshape(-1)), dim=-1)


def _inside(places: Tensor, boxes: Tensor, ratio: float) -> Tensor:
    """Bool Tensor[B, M, A]: True for locations inside a box whose edges are shrunk to ``ratio``."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    reach = (boxes[..., 2:] - boxes[..., :2]) * (ratio / 2)
    return ((places - centres[..., None, :]).abs() <= reach[..., None, :]).all(dim=-1)


def _nearest(each: Tensor, boxes: Tensor, stride: int) -> Tensor:
    """Bool Tensor[B, M, A]: True for the location of a map that is nearest to the centre of a box."""
    height, width = each.shape[-2:]
    across, down = ((boxes[..., :2] + boxes[..., 2:]) / (2 * stride) + 0.5).floor().unbind(dim=-1)
    index = down.clamp(0, height - 1) * width + across.clamp(0, width - 1)
    return torch.arange(height * width, device=each.device) == index[..., None]
