"""On a CUDA device, where training runs in bf16 autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim import SGD

from smnas_optuna.engine.train import train_step

from .tiny_detectors import ARCHS, build, make_batch, spread_predictions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")

kinds = pytest.mark.parametrize("arch", ARCHS, ids=["one_stage", "two_stage"])


@kinds
def test_a_training_step_in_bf16_is_finite_and_close_to_fp32(arch: str) -> None:
    detector, batch = build(arch).to(CUDA).train(), make_batch().to(CUDA)
    exact = copy.deepcopy(detector)

    torch.manual_seed(5)
    loss, finite = train_step(detector, batch, SGD(detector.parameters(), lr=1e-3), clip_norm=10.0)
    torch.manual_seed(5)
    expected = torch.stack(list(exact.losses(batch).values())).sum()

    assert finite
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.detach(), rtol=0.05, atol=0)
    assert all(p.isfinite().all() for p in detector.parameters())


@kinds
@torch.inference_mode()
def test_detections_on_cuda_are_those_on_the_cpu(arch: str) -> None:
    detector, batch = build(arch).eval(), make_batch()
    spread_predictions(detector)
    on_cpu = detector.detect(batch)

    on_cuda = detector.to(CUDA).detect(batch.to(CUDA))

    for mine, its in zip(on_cuda, on_cpu, strict=True):
        assert mine["boxes"].is_cuda
        assert mine["boxes"].isfinite().all()
        assert len(its["scores"]) > 0
        # TF32 and other orders of summation may swap near-equal candidates, so only the surest are compared
        torch.testing.assert_close(mine["scores"][:3].cpu(), its["scores"][:3], atol=0.02, rtol=0)


@kinds
@torch.inference_mode()
def test_detecting_in_bf16_is_finite(arch: str) -> None:
    detector, batch = build(arch).to(CUDA).eval(), make_batch().to(CUDA)

    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = detector.detect(batch)

    assert all(each["boxes"].isfinite().all() and each["boxes"].dtype == torch.float32 for each in found)
