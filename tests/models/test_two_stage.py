from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from smnas_optuna.models import Detector
from smnas_optuna.models.assign import Purpose, random_keys
from smnas_optuna.models.build import stage_recipes
from smnas_optuna.models.detections import Selection
from smnas_optuna.models.guided import GuidedRpn
from smnas_optuna.models.roi_head import BoxPredictor
from smnas_optuna.models.rpn import Rpn
from smnas_optuna.models.two_stage import TwoStageHead

from .tiny_detectors import ARCHS, CONSTANTS, NUM_CLASSES, build, make_batch, ready

TWO_STAGES = {name: arch for name, arch in ARCHS.items() if not arch.endswith("retina")}
kinds = pytest.mark.parametrize("arch", TWO_STAGES.values(), ids=TWO_STAGES)


def _head(detector: Detector) -> TwoStageHead:
    assert isinstance(detector.head, TwoStageHead)
    return detector.head


@kinds
def test_proposals_and_samples_keep_the_constants(arch: str) -> None:
    head = _head(build(arch))
    guided = ".ga." in arch

    assert head.rpn.samples == CONSTANTS.rpn_samples
    assert head.roi_head.samples == (CONSTANTS.guided_roi_samples if guided else CONSTANTS.roi_samples)
    assert head.roi_head.num_proposals == (CONSTANTS.guided_proposals if guided else CONSTANTS.test_proposals)
    if guided:
        assert isinstance(head.rpn, GuidedRpn)
        assert head.rpn.num_proposals == CONSTANTS.guided_proposals
    else:
        assert isinstance(head.rpn, Rpn)
        assert (head.rpn.train_proposals, head.rpn.test_proposals) == (50, 40)
    assert head.roi_head.selection == Selection(score_threshold=0.0, nms_iou=0.5, max_detections=20)


@kinds
def test_what_is_sampled_is_chosen_by_keys_of_its_own_purpose(arch: str) -> None:
    detector, batch, asked = build(arch), make_batch(), list[Purpose]()

    def keys(seeds: Tensor, purpose: Purpose, count: int) -> Tensor:
        assert seeds is batch.seeds
        asked.append(purpose)
        return random_keys(seeds, purpose, count)

    head = _head(detector)
    head.rpn.keys = head.roi_head.keys = keys
    detector.losses(batch)

    of_rpn = [Purpose.SHAPE_SAMPLES, Purpose.GUIDED_SAMPLES] if ".ga." in arch else [Purpose.RPN_SAMPLES]
    assert asked == [*of_rpn, Purpose.ROI_SAMPLES]


@kinds
@torch.no_grad()
def test_the_roi_head_trains_on_what_the_rpn_proposes(arch: str) -> None:
    detector, batch = ready(arch), make_batch()
    head, features = _head(detector), detector.features(batch)

    losses = head.losses(features, batch)
    rpn_losses, proposals = head.rpn.losses(features, batch)
    roi_losses = head.roi_head.losses(features, proposals, batch)

    assert proposals.valid.any(dim=1).all()
    assert losses == {**rpn_losses, **roi_losses}
    assert not set(rpn_losses) & set(roi_losses)


@kinds
@pytest.mark.parametrize("fixed_time", [False, True], ids=["exact", "fixed time"])
@torch.no_grad()
def test_the_roi_head_detects_on_what_the_rpn_proposes(arch: str, fixed_time: bool) -> None:
    detector, batch = ready(arch), make_batch()
    head, features = _head(detector), detector.features(batch)

    found = head.selection.exact(head.candidates(features, batch, fixed_time=fixed_time))
    wanted = head.rpn.propose(features, batch, fixed_time=fixed_time)
    detections = head.roi_head.selection.exact(head.roi_head.candidates(features, wanted, batch, fixed_time=fixed_time))

    for one, other in zip(found, detections, strict=True):
        assert len(one["boxes"]) > 0
        assert all(torch.equal(one[name], other[name]) for name in one)


@kinds
def test_every_stage_of_a_cascade_is_its_own_and_class_agnostic(arch: str) -> None:
    roi_head = _head(build(arch)).roi_head
    predictors = [module for module in roi_head.stages.modules() if isinstance(module, BoxPredictor)]
    cascade = "cascade" in arch

    number = int(arch.partition("cascade")[2][:1]) if cascade else 1
    assert len(predictors) == len(roi_head.stages) == len(roi_head.recipes) == number
    assert {each.bbox_pred.out_features for each in predictors} == {4 if cascade else 4 * (NUM_CLASSES + 1)}
    assert {each.cls_score.out_features for each in predictors} == {NUM_CLASSES + 1}
    own = [{id(parameter) for parameter in stage.parameters()} for stage in roi_head.stages]
    assert len(set.union(*own)) == sum(map(len, own))


@kinds
def test_without_a_pyramid_the_last_stage_of_the_backbone_looks_at_every_roi(arch: str) -> None:
    detector = build(arch)
    head = _head(detector)
    c4 = ".c4." in arch

    levels = detector.features(make_batch())

    assert isinstance(head.roi_head.trunk, nn.Identity) != c4
    assert head.roi_head.bins == (14 if c4 else 7)
    if c4:
        assert list(levels) == ["p4"]
        assert levels["p4"].shape[-2:] == (4, 4)
        assert any(parameter.numel() for parameter in head.roi_head.trunk.parameters())
    assert set(head.roi_head.levels) <= {int(name[1:]) for name in levels}


def test_recipes_of_a_cascade_are_the_papers() -> None:
    recipes, guided = stage_recipes(3, guided=False), stage_recipes(3, guided=True)

    assert [each.positive_iou for each in recipes] == [0.5, 0.6, 0.7]
    assert [each.positive_iou for each in guided] == [0.6, 0.7, 0.75]
    assert [each.loss_weight for each in recipes] == [1, 0.5, 0.25]
    # standard deviations of 0.1 and 0.2, a half and a third of them (Cai and Vasconcelos 2018)
    assert [each.box_weights for each in recipes] == [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
    assert guided == [replace(own, positive_iou=iou) for own, iou in zip(recipes, (0.6, 0.7, 0.75), strict=True)]
    assert stage_recipes(1, guided=False) == recipes[:1]
