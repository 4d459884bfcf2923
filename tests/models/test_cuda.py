"""On a CUDA device, where training runs in bf16 autocast and never waits for the device."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch.optim import Optimizer

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.train import build_optimizer, train_step
from smnas_optuna.models import Detector
from smnas_optuna.models.assign import Purpose, random_keys
from smnas_optuna.models.nms import exact_nms, fixpoint_nms
from smnas_optuna.models.roi_align import pyramid_roi_align

from .tiny_detectors import build, kinds, make_batch, random_boxes, spread_predictions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


def _optimizer(detector: Detector) -> Optimizer:
    return build_optimizer(detector, TrainSettings(optimizer="sgd", learning_rate=1e-3, batch_size=16))


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    yield
    torch.cuda.set_sync_debug_mode(before)


@kinds
def test_a_training_step_in_bf16_is_finite_and_close_to_fp32(arch: str) -> None:
    detector, batch = build(arch).to(CUDA).train(), make_batch().to(CUDA)
    exact = copy.deepcopy(detector)

    loss, finite = train_step(detector, batch, _optimizer(detector), clip_norm=10.0)
    expected = torch.stack(list(exact.losses(batch).values())).sum()

    assert finite
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.detach(), rtol=0.1, atol=0)
    assert all(p.isfinite().all() for p in detector.parameters())
    changed = [not torch.equal(p, q) for p, q in zip(detector.parameters(), exact.parameters(), strict=True)]
    assert any(changed)


@kinds
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_training_step_never_waits_for_the_device(arch: str, waiting_is_an_error: None) -> None:
    detector, batch = build(arch).to(CUDA).train(), make_batch().to(CUDA)
    optimizer = _optimizer(detector)
    train_step(detector, batch, optimizer, clip_norm=10.0)  # anchors are made and kept

    torch.cuda.set_sync_debug_mode("error")
    loss, finite = train_step(detector, batch, optimizer, clip_norm=10.0)
    torch.cuda.set_sync_debug_mode("default")

    assert finite
    assert loss.isfinite()


@kinds
def test_a_step_that_is_not_finite_is_skipped_and_nothing_breaks(arch: str) -> None:
    detector, batch = build(arch).to(CUDA).train(), make_batch().to(CUDA)
    optimizer = _optimizer(detector)
    broken = next(detector.backbone.parameters())
    broken.data[0] = torch.nan
    before = [p.clone() for p in detector.parameters()]

    _, finite = train_step(detector, batch, optimizer, clip_norm=10.0)

    assert not finite
    for one, other in zip(detector.parameters(), before, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


@kinds
@torch.inference_mode()
def test_detections_on_cuda_are_those_on_the_cpu(arch: str) -> None:
    detector, batch = build(arch).eval(), make_batch()
    spread_predictions(detector)
    on_cpu = detector.detect(batch)

    with torch.backends.cudnn.flags(allow_tf32=False):
        on_cuda = detector.to(CUDA).detect(batch.to(CUDA))

    for mine, its in zip(on_cuda, on_cpu, strict=True):
        assert mine["boxes"].is_cuda
        assert mine["boxes"].isfinite().all()
        assert len(its["scores"]) > 0
        # other orders of summation may swap near-equal candidates, so only the surest are compared
        torch.testing.assert_close(mine["scores"][:3].cpu(), its["scores"][:3], atol=0.02, rtol=0)


@kinds
@torch.inference_mode()
def test_detecting_in_bf16_is_finite(arch: str) -> None:
    detector, batch = build(arch).to(CUDA).eval(), make_batch().to(CUDA)

    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = detector.detect(batch)

    assert all(each["boxes"].isfinite().all() and each["boxes"].dtype == torch.float32 for each in found)


def test_suppression_in_fixed_time_is_exact_and_that_of_the_cpu() -> None:
    boxes = torch.stack([random_boxes(torch.Generator().manual_seed(seed), 1000, 256.0) for seed in range(4)])
    scores = torch.linspace(1, 0, 1000).expand(4, -1)
    valid = torch.rand(4, 1000, generator=torch.Generator().manual_seed(4)) < 0.9
    groups = torch.zeros(1000, dtype=torch.int64)

    fixed, settled = (each.cpu() for each in fixpoint_nms(boxes.to(CUDA), valid.to(CUDA), 0.7))
    exact = exact_nms(boxes.to(CUDA), scores.to(CUDA), groups.to(CUDA), valid.to(CUDA), 0.7).cpu()

    assert settled
    assert torch.equal(fixed, exact)
    assert torch.equal(fixed, exact_nms(boxes, scores, groups, valid, 0.7))
    assert 0 < fixed.sum() < valid.sum()


@pytest.mark.parametrize("purpose", Purpose)
def test_random_keys_are_those_of_the_cpu(purpose: Purpose) -> None:
    seeds = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)])

    assert torch.equal(random_keys(seeds.to(CUDA), purpose, 10_001).cpu(), random_keys(seeds, purpose, 10_001))


def test_pooling_is_that_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    features = {
        f"p{level}": torch.randn(2, 8, 256 >> level, 256 >> level, generator=generator) for level in (2, 3, 4, 5)
    }
    rois = torch.stack([random_boxes(generator, 100, 256.0) for _ in range(2)])

    on_cuda = pyramid_roi_align({n: each.to(CUDA) for n, each in features.items()}, range(2, 6), rois.to(CUDA), 7)

    expected = pyramid_roi_align(features, range(2, 6), rois, 7)
    torch.testing.assert_close(on_cuda.cpu(), expected, atol=1e-4, rtol=0)
