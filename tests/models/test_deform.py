from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from smnas_optuna.models.deform import deform_conv


def _inputs(groups: int, kernel: int, grid: tuple[int, int], reach: float) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, *grid, generator=random, dtype=torch.float64)
    offset = torch.randn(3, groups * kernel**2 * 2, *grid, generator=random, dtype=torch.float64) * reach
    weight = torch.randn(5, 8, kernel, kernel, generator=random, dtype=torch.float64)
    return x.requires_grad_(), offset.requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("kernel", "grid"), [(3, (6, 9)), (1, (4, 4)), (3, (1, 1)), (5, (7, 3))])
@pytest.mark.parametrize("reach", [0.5, 3.0, 100.0])
def test_values_and_gradients_are_torchvisions(groups: int, kernel: int, grid: tuple[int, int], reach: float) -> None:
    inputs = _inputs(groups, kernel, grid, reach)
    found, expected = deform_conv(*inputs), deform_conv2d(*inputs, padding=kernel // 2)
    towards = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)

    torch.testing.assert_close(found, expected)
    for mine, its in zip(
        torch.autograd.grad(found, inputs, towards), torch.autograd.grad(expected, inputs, towards), strict=True
    ):
        torch.testing.assert_close(mine, its)


def test_at_whole_offsets_it_reads_the_moved_places() -> None:
    x, _, weight = _inputs(1, 3, (6, 9), 0.0)
    offset = torch.zeros(3, 18, 6, 9, dtype=torch.float64)
    offset[:, 0::2], offset[:, 1::2] = 1, -2  # a row down, two columns to the left

    moved = torch.nn.functional.pad(x, (2, 0, 0, 1))[:, :, 1:, :9]

    found = deform_conv(x, offset, weight)
    expected = torch.nn.functional.conv2d(moved, weight, padding=1)
    torch.testing.assert_close(found[..., 1:-1, 3:-1], expected[..., 1:-1, 3:-1])


def test_offsets_far_outside_read_nothing() -> None:
    x, offset, weight = _inputs(1, 3, (4, 4), 0.0)

    assert deform_conv(x, offset + 1e4, weight).abs().max() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_is_the_same() -> None:
    inputs = _inputs(4, 3, (6, 9), 2.0)

    torch.testing.assert_close(deform_conv(*(each.cuda() for each in inputs)).cpu(), deform_conv(*inputs))
