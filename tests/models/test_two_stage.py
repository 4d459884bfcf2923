from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from smnas_optuna.models.two_stage import ROI_SIZE, TwoStageHead, build_fc_head

from .tiny_detectors import CONSTANTS, TWO_STAGE, build

# On a canvas of 448 x 448 px; (height, width) of the image on it. A thin one misleads a pooler that guesses strides.
IMAGE_SIZES = [(448, 448), (6, 448), (448, 3)]


def _features(levels: range) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(6)
    return {f"p{level}": torch.randn(1, 4, 448 // 2**level, 448 // 2**level, generator=generator) for level in levels}


def _boxes() -> Tensor:
    edges = torch.tensor([6.0, 55.0, 60.0, 111.0, 113.0, 150.0, 223.0, 225.0, 440.0])
    return torch.stack([edges * 0 + 3, edges * 0 + 5, edges + 3, edges + 5], dim=1)


@pytest.mark.parametrize("size", IMAGE_SIZES, ids=["whole canvas", "thin", "thin portrait"])
@pytest.mark.parametrize("lowest", [2, 3, 4])
def test_rois_are_pooled_at_their_levels_stride_whatever_the_images_size(lowest: int, size: tuple[int, int]) -> None:
    levels = range(lowest, 6)
    features, boxes = _features(range(2, 7)), _boxes()
    pooler = build_fc_head(4, lowest, 8, 3, CONSTANTS).box_roi_pool

    pooled = pooler(features, [boxes], [size])

    assert isinstance(pooler, MultiScaleRoIAlign)
    for box, found in zip(boxes, pooled, strict=True):
        # Lin et al. 2017, eq. 1
        wanted = math.floor(4 + math.log2((box[2] - box[0]).item() / 224))
        level = min(max(wanted, levels[0]), levels[-1])
        stride = 2.0**-level
        expected = roi_align(features[f"p{level}"], [box[None]], ROI_SIZE, stride, sampling_ratio=2)[0]
        torch.testing.assert_close(found, expected)


def test_proposals_and_samples_keep_the_constants() -> None:
    head = build(TWO_STAGE).head
    assert isinstance(head, TwoStageHead)

    assert head.rpn.pre_nms_top_n() == head.rpn.post_nms_top_n() == CONSTANTS.train_proposals
    head.eval()
    assert head.rpn.pre_nms_top_n() == head.rpn.post_nms_top_n() == CONSTANTS.test_proposals
    assert head.roi_heads.fg_bg_sampler.batch_size_per_image == CONSTANTS.roi_samples
    assert head.rpn.fg_bg_sampler.batch_size_per_image == CONSTANTS.rpn_samples
