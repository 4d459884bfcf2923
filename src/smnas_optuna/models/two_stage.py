"""Two-stage detection: an RPN proposes, an RoI head classifies and refines; both are torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from smnas_optuna.arch import DetectorConstants
from smnas_optuna.models.anchors import rpn_anchors
from smnas_optuna.models.neck import BACKBONE_TOP

ROI_SIZE = 7
"""Bins of the pooled features in each direction (Lin et al. 2017)."""


class TwoStageHead(nn.Module):
    """What follows the neck in a two-stage detector.

    Args:
        rpn: Features -> proposals, and its losses.
        roi_heads: Features and proposals -> detections, and its losses.
        num_proposals: Proposals an image has in detection, for counting the work.
    """

    def __init__(self, rpn: RegionProposalNetwork, roi_heads: RoIHeads, num_proposals: int) -> None:
        super().__init__()
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.num_proposals = num_proposals

    def losses(
        self, features: dict[str, Tensor], images: ImageList, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN by name, each Tensor[]."""
        proposals, rpn_losses = self.rpn(images, features, targets)
        _, roi_losses = self.roi_heads(features, proposals, images.image_sizes, targets)
        return {**rpn_losses, **roi_losses}

    def detect(self, features: dict[str, Tensor], images: ImageList) -> list[dict[str, Tensor]]:
        """Boxes, labels and scores an image, in pixels of the canvas, highest score first."""
        proposals, _ = self.rpn(images, features)
        detections, _ = self.roi_heads(features, proposals, images.image_sizes)
        return detections  # type: ignore[no-any-return]

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers on as many RoIs as there are proposals at most, so that they can be counted."""
        self.rpn.head(list(features.values()))
        channels = features[f"p{BACKBONE_TOP}"].shape[1]
        rois = features[f"p{BACKBONE_TOP}"].new_zeros(self.num_proposals, channels, ROI_SIZE, ROI_SIZE)
        self.roi_heads.box_predictor(self.roi_heads.box_head(rois))


def build_rpn(channels: int, levels: Sequence[int], constants: DetectorConstants) -> RegionProposalNetwork:
    """RPN over ``levels`` of a pyramid of ``channels``; thresholds as published (Ren et al. 2015)."""
    anchors = rpn_anchors(levels, constants.anchor_scale)
    proposals = {"training": constants.train_proposals, "testing": constants.test_proposals}
    return RegionProposalNetwork(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=constants.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n=proposals,
        post_nms_top_n=proposals,
        nms_thresh=0.7,
    )


def build_fc_head(
    channels: int, min_level: int, width: int, num_classes: int, constants: DetectorConstants
) -> RoIHeads:
    """2-FC head over p<min_level>..p5 of a pyramid of ``channels``, with boxes per class."""
    return RoIHeads(
        _roi_align(range(min_level, BACKBONE_TOP + 1)),
        TwoMLPHead(channels * ROI_SIZE**2, width),
        FastRCNNPredictor(width, num_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=constants.roi_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=constants.score_threshold,
        nms_thresh=constants.nms_iou,
        detections_per_img=constants.max_detections,
    )


def _roi_align(levels: Sequence[int]) -> MultiScaleRoIAlign:
    pooler = MultiScaleRoIAlign([f"p{level}" for level in levels], output_size=ROI_SIZE, sampling_ratio=2)
    # Left to itself the pooler guesses the strides from the first image's size, wrongly for a thin image on its canvas.
    pooler.scales = [2.0**-level for level in levels]
    pooler.map_levels = initLevelMapper(levels[0], levels[-1])
    return pooler
