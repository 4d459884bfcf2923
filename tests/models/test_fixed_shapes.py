"""What is recorded as a CUDA graph asks for no value and no count that the device has yet to compute.

Where there is no GPU, PyTorch's fake tensors say so: they have shapes and a device, but no values.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from smnas_optuna.batch import Batch
from smnas_optuna.models import Detector

from .tiny_detectors import build, kinds, make_batch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="test_cuda.py and test_cuda_graphs.py say it better")
CUDA = torch.device("cuda")


def _on_a_fake_gpu(arch: str, mode: FakeTensorMode) -> tuple[Detector, Batch]:
    batch = Batch.of([mode.from_tensor(each) for each in make_batch().tensors])
    with mode, CUDA:
        return build(arch), batch.to(CUDA)


@kinds
def test_losses_do(arch: str) -> None:  # a backward pass on a fake GPU wants a real one
    detector, batch = _on_a_fake_gpu(arch, mode := FakeTensorMode())

    with mode:
        losses = detector.losses(batch)

    assert {each.device.type for each in losses.values()} == {"cuda"}


@kinds
@torch.no_grad()
def test_detections_in_fixed_time_do(arch: str) -> None:
    detector, batch = _on_a_fake_gpu(arch, mode := FakeTensorMode())

    with mode:
        candidates = detector.eval().candidates(batch, fixed_time=True)
        found = detector.select_in_fixed_time(candidates, batch)

    assert len(found.boxes) == len(batch)
    assert {each.device.type for each in (found.boxes, found.labels, found.counts, found.settled)} == {"cuda"}


@kinds
@torch.no_grad()
def test_exact_detections_do_not(arch: str) -> None:
    detector, batch = _on_a_fake_gpu(arch, mode := FakeTensorMode())

    with mode, pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        detector.eval().detect(batch)
