"""Region proposal network (Ren et al. 2015) on a single level or a pyramid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from smnas_optuna.batch import Batch
from smnas_optuna.models.anchors import PyramidAnchors
from smnas_optuna.models.assign import Matches, Purpose, RandomKeys, match, mean_over_images, random_keys, sample
from smnas_optuna.models.boxes import Weights, encode_boxes, gather_rows
from smnas_optuna.models.losses import binary_losses, box_losses
from smnas_optuna.models.proposals import LevelOutput, Proposals, flatten_level, select_proposals

POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
POSITIVE_SHARE = 0.5
"""Ren et al. 2015, sections 3.1.2 and 3.1.3."""
NO_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class Rpn(nn.Module):
    """Scores and refines anchors; the best are the proposals.

    Args:
        channels: Channels of every level and of the 3x3 convolution.
        anchors: Anchors of every level.
        samples: Anchors per image that are sampled for the losses.
        train_proposals: Maximum number of proposals per image in training.
        test_proposals: Maximum number of proposals per image in detection.
        keys: Random numbers that choose the samples.

    Attributes:
        box_weights: Weights of the box coding.
    """

    box_weights: Weights = NO_WEIGHTS

    def __init__(
        self,
        channels: int,
        anchors: PyramidAnchors,
        *,
        samples: int,
        train_proposals: int,
        test_proposals: int,
        keys: RandomKeys = random_keys,
    ) -> None:
        super().__init__()
        self.head = RPNHead(channels, anchors.per_place)
        self.anchors = anchors
        self.samples = samples
        self.train_proposals, self.test_proposals = train_proposals, test_proposals
        self.keys = keys

    def propose(self, features: dict[str, Tensor], batch: Batch, *, fixed_time: bool = False) -> Proposals:
        """Return proposals for detection; see :func:`select_proposals`."""
        return select_proposals(
            self.outputs(features), batch.sizes, self.test_proposals, weights=self.box_weights, fixed_time=fixed_time
        )

    def losses(self, features: dict[str, Tensor], batch: Batch) -> tuple[dict[str, Tensor], Proposals]:
        """Return losses by name, each Tensor[], and proposals for training, through which no gradient flows."""
        levels = self.outputs(features)
        references = torch.cat([level.references for level in levels], dim=-2)
        matches = match(batch, references, high=POSITIVE_IOU, low=NEGATIVE_IOU, best_for_each_box=True)
        keys = self.keys(batch.seeds, Purpose.RPN_SAMPLES, len(references))
        losses = proposal_losses(levels, matches, batch, self.samples, keys, NO_WEIGHTS)
        proposals = select_proposals(
            levels, batch.sizes, self.train_proposals, weights=NO_WEIGHTS, fixed_time=batch.images.is_cuda
        )
        return losses, proposals

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers once, to count their operations."""
        self.head(list(features.values()))

    def outputs(self, features: dict[str, Tensor]) -> list[LevelOutput]:
        """Return the outputs of every level that proposals are selected from."""
        maps = list(features.values())
        return [
            LevelOutput(logits=flatten_level(logits, 1)[..., 0], deltas=flatten_level(deltas, 4), references=anchors)
            for logits, deltas, anchors in zip(*self.head(maps), self.anchors.of(maps), strict=True)
        ]


def proposal_losses(
    levels: list[LevelOutput],
    matches: Matches,
    batch: Batch,
    count: int,
    keys: Tensor,
    weights: tuple[float, float, float, float],
) -> dict[str, Tensor]:
    """Return objectness and box loss of up to ``count`` sampled references per image, at most half of them positive.

    The references with the largest ``keys``, Tensor[B, A] in [0, 1), are sampled.
    """
    logits = torch.cat([level.logits for level in levels], dim=1)
    deltas = torch.cat([level.deltas for level in levels], dim=1)
    references = torch.cat([level.references for level in levels], dim=-2).expand(len(batch), -1, -1)
    chosen = sample(matches.positive, matches.negative, count, POSITIVE_SHARE, keys)
    targets = encode_boxes(
        gather_rows(matches.boxes(batch), chosen.index), gather_rows(references, chosen.index), weights
    )
    number = chosen.used.sum(dim=1)
    objectness = binary_losses(logits.gather(1, chosen.index), chosen.positive, chosen.used)
    boxes = box_losses(gather_rows(deltas, chosen.index), targets, chosen.positive)
    return {
        "loss_objectness": mean_over_images(objectness, number),
        "loss_rpn_box_reg": mean_over_images(boxes, number),
    }
