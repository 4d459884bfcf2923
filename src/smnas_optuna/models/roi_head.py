"""RoI heads: one stage (Ren et al. 2015) or a cascade of them (Cai and Vasconcelos 2018).

Each stage pools the RoIs, classifies them and refines their boxes; the next stage starts from the refined boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from smnas_optuna.batch import Batch
from smnas_optuna.models.assign import Matches, Purpose, RandomKeys, match, mean_over_images, random_keys, sample
from smnas_optuna.models.boxes import Weights, clip_boxes, decode_boxes, encode_boxes, gather_rows, shorter_edges
from smnas_optuna.models.detections import NO_SCORE, Candidates, Selection
from smnas_optuna.models.losses import box_losses
from smnas_optuna.models.proposals import Proposals
from smnas_optuna.models.roi_align import pyramid_roi_align

POSITIVE_SHARE = 0.25
"""Maximum share of positives among the sampled RoIs (Ren et al. 2015)."""
MIN_EDGE = 1e-2
"""Minimum edge in pixels; detections with a shorter edge are dropped, as in torchvision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRecipe:
    """Training of a stage: minimum IoU of positive RoIs, weight of the losses, and weights of the box coding."""

    positive_iou: float
    loss_weight: float
    box_weights: Weights


class BoxPredictor(nn.Module):
    """Predicts class scores, background first, and boxes from RoI features.

    Args:
        channels: Channels of the RoI features.
        num_classes: Number of classes without background.
        class_agnostic: Predict one box per RoI instead of one per class.
    """

    def __init__(self, channels: int, num_classes: int, *, class_agnostic: bool) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 if class_agnostic else 4 * (num_classes + 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tensor[R, channels] -> logits Tensor[R, num_classes + 1] and deltas Tensor[R, 1 or num_classes + 1, 4]."""
        return self.cls_score(x), self.bbox_pred(x).view(x.shape[0], -1, 4)


class TopStage(nn.Module):
    """The backbone's last stage on each RoI, and the mean over its pixels; it precedes the predictors of C4.

    Args:
        stage: Tensor[R, C, S, S] -> Tensor[R, channels, S / 2, S / 2].
    """

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, pooled: Tensor) -> Tensor:
        """Tensor[R, C, S, S] -> Tensor[R, channels]."""
        return self.stage(pooled).mean(dim=(2, 3))  # type: ignore[no-any-return]


def fc_stage(channels: int, bins: int, width: int, num_classes: int, *, class_agnostic: bool) -> nn.Sequential:
    """Build two fully connected layers of ``width`` on Tensor[R, channels, bins, bins], and the predictors."""
    predictor = BoxPredictor(width, num_classes, class_agnostic=class_agnostic)
    return nn.Sequential(TwoMLPHead(channels * bins**2, width), predictor)


class RoiHead(nn.Module):
    """RoI head with one stage, or a cascade of stages.

    Args:
        levels: Pyramid levels that RoI features are pooled from, without a gap.
        bins: Bins of a RoI per axis.
        trunk: Module on the pooled features before any stage, shared by all stages; an identity behind a pyramid.
        stages: Modules that map the output of the trunk to logits and deltas; see :class:`BoxPredictor`.
        recipes: Recipe of each stage. All stages but the last must be class-agnostic.
        samples: RoIs per image that are sampled for the losses.
        num_proposals: Maximum number of RoIs per image in detection, for counting operations.
        selection: Rules that select detections from the candidates.
        keys: Random numbers that choose the samples.
    """

    def __init__(
        self,
        levels: Sequence[int],
        bins: int,
        trunk: nn.Module,
        stages: Sequence[nn.Module],
        recipes: Sequence[StageRecipe],
        *,
        samples: int,
        num_proposals: int,
        selection: Selection,
        keys: RandomKeys = random_keys,
    ) -> None:
        super().__init__()
        self.levels, self.bins = tuple(levels), bins
        self.trunk = trunk
        self.stages = nn.ModuleList(stages)
        self.recipes = tuple(recipes)
        assert len(self.stages) == len(self.recipes)
        self.samples = samples
        self.num_proposals = num_proposals
        self.selection = selection
        self.keys = keys

    def losses(self, features: dict[str, Tensor], proposals: Proposals, batch: Batch) -> dict[str, Tensor]:
        """Return losses by name, each Tensor[]; stages after the first have their number in the name.

        RoIs are sampled once; later stages relabel the refined boxes at their own threshold. So nothing is sampled from
        boxes that were just refined towards the ground truth, and a pass is saved.
        """
        boxes, used, matches = self._sampled(proposals, batch)
        losses = {}
        for number, (stage, recipe) in enumerate(zip(self.stages, self.recipes, strict=True), start=1):
            if number > 1:
                matches = match(
                    batch, boxes, high=recipe.positive_iou, low=recipe.positive_iou, best_for_each_box=False
                )
            logits, deltas = self._run(stage, features, boxes)
            classes, regression = _stage_losses(logits, deltas, boxes, used, matches, batch, recipe.box_weights)
            suffix = "" if number == 1 else f"_{number}"
            losses[f"loss_classifier{suffix}"] = recipe.loss_weight * classes
            losses[f"loss_box_reg{suffix}"] = recipe.loss_weight * regression
            if number < len(self.stages):
                boxes = _refine(boxes, deltas, recipe, batch.sizes)
        return losses

    def candidates(
        self, features: dict[str, Tensor], proposals: Proposals, batch: Batch, *, fixed_time: bool
    ) -> Candidates:
        """Return each proposal once for every class, with the mean scores of all stages and the boxes of the last one.

        In fixed time, empty slots are processed, too. Otherwise slots that are empty in all images are skipped, which
        synchronizes with the device.
        """
        boxes, valid, scores = proposals.boxes, proposals.valid, []
        if not fixed_time:
            filled = max(1, int(valid.sum(dim=1).max()))  # at least one slot, because the layers need some input
            boxes, valid = boxes[:, :filled], valid[:, :filled]
        for number, (stage, recipe) in enumerate(zip(self.stages, self.recipes, strict=True), start=1):
            logits, deltas = self._run(stage, features, boxes)
            scores.append(logits.softmax(dim=-1))
            if number < len(self.stages):
                boxes = _refine(boxes, deltas, recipe, batch.sizes)
            else:
                boxes = decode_boxes(deltas, boxes[:, :, None], recipe.box_weights)
                boxes = clip_boxes(boxes, batch.sizes)
        mean = torch.stack(scores).mean(dim=0)[..., 1:]  # the first score is the background's
        images, rois, classes = mean.shape
        boxes = boxes.expand(-1, -1, classes, -1) if boxes.shape[2] == 1 else boxes[:, :, 1:]
        usable = valid[..., None] & (shorter_edges(boxes) >= MIN_EDGE)
        labels = torch.arange(1, classes + 1, device=mean.device).expand(images, rois, classes)
        return Candidates(
            boxes=boxes.flatten(1, 2),
            labels=labels.flatten(1),
            scores=torch.where(usable, mean, NO_SCORE).flatten(1),
            settled=proposals.settled,
        )

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers on the maximum number of proposals, to count their operations."""
        like = features[f"p{self.levels[0]}"]
        rois = like.new_zeros(self.num_proposals, like.shape[1], self.bins, self.bins)
        for stage in self.stages:
            stage(self.trunk(rois))

    def _sampled(self, proposals: Proposals, batch: Batch) -> tuple[Tensor, Tensor, Matches]:
        """Sample RoIs: boxes Tensor[B, N, 4], the mask of used slots, and the matches of the RoIs.

        Ground truth is among the candidates, so that there are positives at the start of training.
        """
        candidates = torch.cat((proposals.boxes, batch.boxes), dim=1)
        there = torch.cat((proposals.valid, batch.objects), dim=1)
        threshold = self.recipes[0].positive_iou
        found = match(batch, candidates, high=threshold, low=threshold, best_for_each_box=False)
        keys = self.keys(batch.seeds, Purpose.ROI_SAMPLES, there.shape[1])
        chosen = sample(found.positive & there, found.negative & there, self.samples, POSITIVE_SHARE, keys)
        matches = Matches(
            index=found.index.gather(1, chosen.index), positive=chosen.positive, negative=chosen.used & ~chosen.positive
        )
        return gather_rows(candidates, chosen.index), chosen.used, matches

    def _run(self, stage: nn.Module, features: dict[str, Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits Tensor[B, N, C + 1] and deltas Tensor[B, N, 1 or C + 1, 4] of RoIs Tensor[B, N, 4]."""
        pooled = pyramid_roi_align(features, self.levels, boxes, self.bins)
        logits, deltas = stage(self.trunk(pooled))
        images, rois = boxes.shape[:2]
        return logits.view(images, rois, -1), deltas.view(images, rois, -1, 4)


def _stage_losses(
    logits: Tensor, deltas: Tensor, boxes: Tensor, used: Tensor, matches: Matches, batch: Batch, weights: Weights
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and box loss of one stage, each Tensor[]: the mean over images of the mean over RoIs."""
    labels = matches.labels(batch)
    looked_at = used & (matches.positive | matches.negative)
    count = looked_at.sum(dim=1)
    entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    if deltas.shape[2] > 1:  # one box per class
        deltas = deltas.gather(2, labels[..., None, None].expand(-1, -1, 1, 4))
    targets = encode_boxes(matches.boxes(batch), boxes, weights)
    regression = box_losses(deltas[:, :, 0], targets, matches.positive & used)
    return mean_over_images(entropy * looked_at, count), mean_over_images(regression, count)


def _refine(boxes: Tensor, deltas: Tensor, recipe: StageRecipe, sizes: Tensor) -> Tensor:
    """Return the boxes that a class-agnostic stage passes to the next one; no gradient flows through them."""
    refined = decode_boxes(deltas[:, :, 0].detach(), boxes, recipe.box_weights)
    return clip_boxes(refined, sizes)
