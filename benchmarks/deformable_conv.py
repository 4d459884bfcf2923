"""A deformable convolution forwards and backwards on a CPU: ours against torchvision's, in alternation.

    python benchmarks/deformable_conv.py [--rounds 15]

The maps are those of Guided Anchoring in a small study: batch 8, 128x96. Writes ``benchmarks/deformable_conv.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.models.deform import deform_conv

BATCH, GROUPS = 8, 4
MAPS = ((32, 24, 32), (64, 24, 32), (64, 12, 16), (64, 6, 8))
"""(Channels, height, width)."""


def main() -> None:
    """Time both on every map and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/deformable_conv.json"))
    arguments = parser.parse_args()
    results = {}
    print(
        "| map (C, H, W) | ours, ms | torchvision, ms | torchvision / ours, lowest and highest |\n" + "| --- " * 4 + "|"
    )
    for channels, height, width in MAPS:
        times = measure(channels, height, width, arguments.rounds)
        ratios = [its / mine for mine, its in zip(times["ours"], times["torchvision"], strict=True)]
        found = {
            **{name: statistics.median(each) for name, each in times.items()},
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
        results[f"{channels}x{height}x{width}"] = found
        print(
            f"| {channels}, {height}, {width} | {found['ours']:.1f} | {found['torchvision']:.1f} | "
            f"{found['ratio']:.1f} ({found['lowest']:.1f}..{found['highest']:.1f}) |"
        )
    about = {"device": describe_device(torch.device("cpu")), "versions": library_versions(), "batch": BATCH}
    write_json(arguments.output, {**about, "rounds": arguments.rounds, "results": results})


def measure(channels: int, height: int, width: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round, forwards and backwards, after one round of warm-up."""
    torch.manual_seed(0)
    inputs = (
        torch.randn(BATCH, channels, height, width, requires_grad=True),
        torch.randn(BATCH, GROUPS * 2 * 9, height, width, requires_grad=True),
        torch.randn(channels, channels, 3, 3, requires_grad=True),
    )
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: deform_conv(*inputs),
        "torchvision": lambda: deform_conv2d(*inputs, padding=1),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            torch.autograd.grad(run().sum(), inputs)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: each[1:] for name, each in times.items()}


if __name__ == "__main__":
    main()
