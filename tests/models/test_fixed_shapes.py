"""What is recorded as a CUDA graph asks for no value and no count that the device has yet to compute.

Where there is no GPU, PyTorch's fake tensors say so: they have shapes and a device, but no values.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from smnas_optuna.batch import Batch
from smnas_optuna.models import Detector

from .tiny_detectors import ARCHS, build, make_batch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="test_cuda.py and test_cuda_graphs.py say it better")
CUDA = torch.device("cuda")
QUICK = ("one_stage", "two_stage", "c4-cascade3", "guided-cascade4-xbottleneck")
"""Every kind of RPN, head and neck; the others differ from these in their backbones."""
CASES = [pytest.param(arch, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, arch in ARCHS.items()]


@dataclass(frozen=True, kw_only=True, slots=True)
class _FakeGpu:
    mode: FakeTensorMode
    detector: Detector
    batch: Batch


@pytest.fixture(scope="module", params=CASES)
def fake(request: pytest.FixtureRequest) -> _FakeGpu:
    """A detector and a batch on a fake GPU."""
    mode = FakeTensorMode()
    batch = Batch.of([mode.from_tensor(each) for each in make_batch().tensors])
    with mode, CUDA:
        return _FakeGpu(mode=mode, detector=build(request.param), batch=batch.to(CUDA))


@pytest.mark.slow
def test_losses_do(fake: _FakeGpu) -> None:  # a backward pass on a fake GPU wants a real one
    with fake.mode:
        losses = fake.detector.train().losses(fake.batch)

    assert {each.device.type for each in losses.values()} == {"cuda"}


@torch.no_grad()
def test_detections_in_fixed_time_do(fake: _FakeGpu) -> None:
    with fake.mode:
        candidates = fake.detector.eval().candidates(fake.batch, fixed_time=True)
        found = fake.detector.select_in_fixed_time(candidates, fake.batch)

    assert len(found.boxes) == len(fake.batch)
    assert {each.device.type for each in (found.boxes, found.labels, found.counts, found.settled)} == {"cuda"}


@torch.no_grad()
def test_exact_detections_do_not(fake: _FakeGpu) -> None:
    with fake.mode, pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        fake.detector.eval().detect(fake.batch)
