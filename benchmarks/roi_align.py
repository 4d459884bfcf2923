"""Time of RoIAlign over a pyramid, forwards and backwards: ours, one embedding_bag, beside torchvision's.

    python benchmarks/roi_align.py [--device auto] [--rounds 15] [--output benchmarks/roi_align.json]

Torchvision's is timed in two forms. ``MultiScaleRoIAlign`` has shapes that depend on the data. ``roi_align`` of all
RoIs on each level, of which those that belong there are taken, has fixed shapes. On a CPU our gradient is not
embedding_bag's own; there that one is timed, too. All run in alternation in float32. On one CPU core the small case,
the only one of a CPU, takes about half a minute.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import command_line, markdown_table, measured_on
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign, roi_align

from smnas_optuna.engine.device import choose_device, synchronize
from smnas_optuna.engine.durable import write_json
from smnas_optuna.models.roi_align import pyramid_roi_align, roi_levels

LEVELS, BINS = range(2, 6), 7
CASES = {
    "small": {"images": 16, "height": 128, "width": 128, "channels": 64, "rois": 64},
    "middle": {"images": 16, "height": 256, "width": 320, "channels": 128, "rois": 128},
    "r50": {"images": 8, "height": 608, "width": 800, "channels": 256, "rois": 384},
}


def main() -> None:
    """Time all cases (on a CPU the small one), print the table and write the JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/roi_align.json"))
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    names = list(CASES) if device.type == "cuda" else ["small"]
    results = {name: measure(CASES[name], device, arguments.rounds) for name in names}
    write_json(arguments.output, {**measured_on(device), "cases": CASES, "milliseconds": results})
    heads = ("case", *(f"{form}, ms" for form in next(iter(results.values()))))
    rows = [(name, *(f"{statistics.median(each):.2f}" for each in times.values())) for name, times in results.items()]
    print(markdown_table(heads, rows))


def measure(case: dict[str, int], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each form in each round, after one round of warm-up."""
    generator = torch.Generator().manual_seed(0)
    height, width, rois = case["height"], case["width"], _rois(case, generator).to(device)
    maps = {
        f"p{level}": torch.randn(case["images"], case["channels"], height >> level, width >> level, generator=generator)
        .to(device)
        .requires_grad_()
        for level in LEVELS
    }
    pool = MultiScaleRoIAlign(list(maps), BINS, sampling_ratio=2)
    sizes = [(height, width)] * case["images"]
    forms: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: pyramid_roi_align(maps, LEVELS, rois, BINS),
        "MultiScaleRoIAlign": lambda: pool(maps, list(rois), sizes),
        "roi_align on all levels": lambda: _all_levels(maps, rois),
    }
    if device.type == "cpu":
        forms["embedding_bag"] = lambda: _plain(maps, rois)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            elapsed = _timed_ms(form, device)
            if turn:
                times[name].append(elapsed)
    return times


def _plain(maps: dict[str, Tensor], rois: Tensor) -> Tensor:
    """Ours with the gradient that comes with ``embedding_bag``."""

    def sums(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        return F.embedding_bag(index, table, per_sample_weights=weights, mode="sum")

    with patch("smnas_optuna.models.roi_align.weighted_sums", sums):
        return pyramid_roi_align(maps, LEVELS, rois, BINS)


def _all_levels(maps: dict[str, Tensor], rois: Tensor) -> Tensor:
    level = roi_levels(rois, LEVELS).flatten()[:, None, None, None]
    images = torch.arange(len(rois), device=rois.device).repeat_interleave(rois.shape[1])
    boxes = torch.cat((images[:, None], rois.flatten(0, 1)), dim=1)
    pooled: Any = 0.0
    for each in LEVELS:
        own = roi_align(maps[f"p{each}"], boxes, BINS, 2.0**-each, 2)
        pooled = pooled + torch.where(level == each, own, 0.0)
    return pooled  # type: ignore[no-any-return]


def _timed_ms(form: Callable[[], Tensor], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    form().sum().backward()  # type: ignore[no-untyped-call]
    synchronize(device)
    return (time.perf_counter() - start) * 1000


def _rois(case: dict[str, int], generator: torch.Generator) -> Tensor:
    """Tensor[B, N, 4] of all sizes, most of them small."""
    size = torch.tensor([case["width"], case["height"]])
    corner = torch.rand(case["images"], case["rois"], 2, generator=generator) * size
    extent = 8 + torch.rand(case["images"], case["rois"], 2, generator=generator) ** 3 * size
    return torch.cat((corner, torch.minimum(corner + extent, size.float())), dim=-1)


if __name__ == "__main__":
    main()
