"""Training speed: ours and torchvision's reference loop side by side, in alternation, in one process.

    python benchmarks/training_speed.py [--sizes small middle r50] [--alternations 7] [--steps 5] [--device auto]
        [--output benchmarks/training_speed.json]

Both train the same backbone and pyramid on the same drawn images with the same batch, optimizer and precision. A step
uses a batch that is in memory already. An epoch includes loading: ours from the decoded cache with augmentation in
batches, torchvision's from files with its per-image transform and a DataLoader. On CUDA both are timed in bf16, too.
Ours is then also timed by CUDA graphs, which is how a study trains there, and with channels last. ``r50`` is for CUDA
only. On 2 CPU cores ``--sizes small`` takes two minutes.
"""

from __future__ import annotations

import copy
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import command_line, markdown_table, measured_on
from torch import nn
from torchvision_loop import listed_batches, torchvision_detector, torchvision_step

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch
from smnas_optuna.config import ShapesSettings, TrainSettings
from smnas_optuna.data import CocoDataset, DetectionLoader, load_coco
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.device import choose_device, synchronize
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.graphs import WARM_UP_CALLS, GraphSteps
from smnas_optuna.engine.train import build_optimizer, train_step
from smnas_optuna.models import build_detector

FLIP = 0.5


@dataclass(frozen=True, kw_only=True)
class Case:
    """Architecture, images in a step, drawn images, and the constants of both detectors."""

    arch: str
    batch_size: int
    images: int
    constants: DetectorConstants


SMALL = DetectorConstants(anchor_scale=4, train_proposals=200, test_proposals=100, rpn_samples=64, roi_samples=64)
CASES = {
    "small": Case(arch="128x128.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", batch_size=16, images=160, constants=SMALL),
    "middle": Case(
        arch="320x256.resnet18-w64.fpn-p2-p6-c128.rpn.fc-w512",
        batch_size=16,
        images=64,
        constants=DetectorConstants(train_proposals=500, test_proposals=300, rpn_samples=128, roi_samples=128),
    ),
    "r50": Case(
        arch="800x600.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024", batch_size=8, images=64, constants=DetectorConstants()
    ),
}


class SideBySide:
    """Our loop and torchvision's on one case.

    Args:
        case: Architecture, batch and images.
        device: Device of both.
        folder: Folder that the images are drawn into.
    """

    def __init__(self, case: Case, device: torch.device, folder: Path) -> None:
        self.case, self.device = case, device
        spec = decode(case.arch)
        size = spec.input_size
        dataset = _draw(folder, case.images, size.long, size.short)
        torch.manual_seed(0)
        ours = build_detector(spec, dataset.num_classes, case.constants)
        theirs = torchvision_detector(ours, spec, dataset.num_classes, case.constants)
        self.ours, self.theirs = ours.to(device).train(), theirs.to(device).train()
        self.recipe = recipe = TrainSettings(batch_size=case.batch_size)
        self.our_optimizer = build_optimizer(self.ours, recipe)
        self.their_optimizer = build_optimizer(self.theirs, recipe)
        self.loader = DetectionLoader(
            dataset,
            long=size.long,
            short=size.short,
            batch_size=case.batch_size,
            device=device,
            seed=0,
            train=True,
            flip=FLIP,
            scale_jitter=(1.0, 1.0),
        )
        self.listed = listed_batches(dataset, case.batch_size, FLIP, workers=min(4, os.cpu_count() or 1))
        self.batch: Batch = next(iter(self.loader.epoch(0)))
        self.list_batch = next(iter(self.listed))
        self.record_seconds = 0.0
        if device.type == "cuda":
            self.graph_step = self._recorded_step()
            self.channels_last = copy.deepcopy(self.ours).to(memory_format=torch.channels_last)
            self.last_optimizer = build_optimizer(self.channels_last, recipe)

    def _recorded_step(self) -> GraphSteps:
        """Our step by a CUDA graph, recorded now; ``record_seconds`` is the time of that."""
        detector = copy.deepcopy(self.ours)
        step = GraphSteps(detector, build_optimizer(detector, self.recipe), 10.0)
        for _ in range(WARM_UP_CALLS):
            step(self.batch)
        synchronize(self.device)
        start = time.perf_counter()
        step(self.batch)
        synchronize(self.device)
        self.record_seconds = time.perf_counter() - start
        return step

    def our_step(self, batch: Batch | None = None, *, bf16: bool = False) -> int:
        """One step; the number of images."""
        batch = self.batch if batch is None else batch
        train_step(self.ours, batch, self.our_optimizer, 10.0, bf16=bf16)
        return len(batch)

    def our_graph_step(self, batch: Batch | None = None) -> int:
        """One step by a graph, in bf16; the number of images."""
        batch = self.batch if batch is None else batch
        self.graph_step(batch)
        return len(batch)

    def our_channels_last_step(self) -> int:
        """One step in bf16 with weights whose channels come last; the number of images."""
        train_step(self.channels_last, self.batch, self.last_optimizer, 10.0, bf16=True)
        return len(self.batch)

    def their_step(self, batch: Any = None, *, bf16: bool = False) -> int:
        """One step; the number of images."""
        batch = self.list_batch if batch is None else batch
        torchvision_step(self.theirs, batch, self.their_optimizer, bf16=bf16)
        return len(batch[0])

    def our_epoch(self, numbers: Iterator[int], *, bf16: bool = False) -> int:
        """All batches of an epoch; the number of images."""
        return sum(self.our_step(batch, bf16=bf16) for batch in self.loader.epoch(next(numbers)))

    def our_graph_epoch(self, numbers: Iterator[int]) -> int:
        """All batches of an epoch, by a graph in bf16; the number of images."""
        return sum(self.our_graph_step(batch) for batch in self.loader.epoch(next(numbers)))

    def their_epoch(self, *, bf16: bool = False) -> int:
        """All batches of an epoch; the number of images."""
        return sum(self.their_step(batch, bf16=bf16) for batch in self.listed)

    def phases(self, repeats: int) -> dict[str, float]:
        """Shares of our step, in 0..1: backbone and neck, head and losses, backward pass, optimizer."""
        seconds = dict.fromkeys(("backbone and neck", "head and losses", "backward", "optimizer"), 0.0)

        def timed(name: str, action: Callable[[], Any]) -> Any:
            synchronize(self.device)
            start = time.perf_counter()
            result = action()
            synchronize(self.device)
            seconds[name] += time.perf_counter() - start
            return result

        def update() -> None:
            nn.utils.clip_grad_norm_(self.ours.parameters(), 10.0)
            self.our_optimizer.step()

        head: Any = self.ours.head
        for _ in range(repeats):
            self.our_optimizer.zero_grad()
            features = timed("backbone and neck", lambda: self.ours.features(self.batch))
            losses = timed("head and losses", partial(head.losses, features, self.batch))
            total = torch.stack(list(losses.values())).sum()
            timed("backward", total.backward)
            timed("optimizer", update)
        whole = sum(seconds.values())
        return {name: each / whole for name, each in seconds.items()}


def main() -> None:
    """Time the cases, print a table of each and write the JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=CASES, default=["small", "middle"])
    parser.add_argument("--alternations", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="steps of each loop in an alternation")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/training_speed.json"))
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    results: dict[str, Any] = {}
    for name in arguments.sizes:
        if name == "r50" and device.type != "cuda":
            parser.error("r50 is for CUDA only: a step takes minutes on a CPU")
        with tempfile.TemporaryDirectory() as folder:
            for result in run_case(CASES[name], device, Path(folder), arguments.alternations, arguments.steps):
                results[name] = result
                write_json(arguments.output, {**measured_on(device), "results": results})
        print(table(name, results[name]), flush=True)


def run_case(case: Case, device: torch.device, folder: Path, alternations: int, steps: int) -> Iterator[dict[str, Any]]:
    """Images/s of each timed run in every alternation, peak memory, phases of our step and time to record a graph.

    They are yielded after each alternation, so that a run that is ended has its first ones.
    """
    pair, numbers = SideBySide(case, device, folder), itertools.count()
    timed_runs: dict[str, Callable[[], int]] = {
        "step, ours": lambda: sum(pair.our_step() for _ in range(steps)),
        "step, torchvision": lambda: sum(pair.their_step() for _ in range(steps)),
        "epoch, ours": lambda: pair.our_epoch(numbers),
        "epoch, torchvision": pair.their_epoch,
    }
    if device.type == "cuda":
        timed_runs["step, ours in bf16"] = lambda: sum(pair.our_step(bf16=True) for _ in range(steps))
        timed_runs["step, torchvision in bf16"] = lambda: sum(pair.their_step(bf16=True) for _ in range(steps))
        timed_runs["step, ours in bf16, channels last"] = lambda: sum(
            pair.our_channels_last_step() for _ in range(steps)
        )
        timed_runs["step, ours in bf16, by graph"] = lambda: sum(pair.our_graph_step() for _ in range(steps))
        timed_runs["epoch, ours in bf16"] = lambda: pair.our_epoch(numbers, bf16=True)
        timed_runs["epoch, torchvision in bf16"] = lambda: pair.their_epoch(bf16=True)
        timed_runs["epoch, ours in bf16, by graph"] = lambda: pair.our_graph_epoch(numbers)
    speeds: dict[str, list[float]] = {name: [] for name in timed_runs}
    memory: dict[str, int] = {}
    phases: dict[str, float] = {}
    for turn in range(alternations + 1):  # the first one is warm-up
        begin = time.perf_counter()
        for name, run in timed_runs.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            synchronize(device)
            start = time.perf_counter()
            images = run()
            synchronize(device)
            if turn:
                speeds[name].append(images / (time.perf_counter() - start))
            if device.type == "cuda":
                memory[name] = torch.cuda.max_memory_allocated(device) // 2**20
        took = time.perf_counter() - begin
        print(f"{case.arch}: alternation {turn} of {alternations} took {took:.1f} s", file=sys.stderr, flush=True)
        if not turn:
            phases = pair.phases(steps)
            continue
        yield {
            "arch": case.arch,
            "batch_size": case.batch_size,
            "images_per_second": speeds,
            "peak_memory_mib": memory,
            "phases_of_our_step": phases,
            "seconds_to_record": pair.record_seconds,
        }


def table(name: str, result: dict[str, Any]) -> str:
    """Median images/s, and the ratio to torchvision's in the same precision: median (lowest..highest) over turns."""
    speeds = result["images_per_second"]
    rows = []
    for what, each in speeds.items():
        rival = f"{what.partition(',')[0]}, torchvision{' in bf16' if 'bf16' in what else ''}"
        ratios = sorted(mine / its for mine, its in zip(each, speeds[rival], strict=True))
        ratio = "" if what == rival else f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})"
        memory = result["peak_memory_mib"].get(what, "")
        rows.append((what, f"{statistics.median(each):.1f}", ratio, f"{memory}"))
    shares = ", ".join(f"{phase} {100 * share:.0f} %" for phase, share in result["phases_of_our_step"].items())
    recorded = f"; a graph is recorded in {result['seconds_to_record']:.2f} s" if result["seconds_to_record"] else ""
    summary = f"{name}: {result['arch']}, batch {result['batch_size']}"
    speeds_table = markdown_table(("what", "images/s", "times torchvision's", "MiB"), rows)
    return "\n".join([summary, speeds_table, f"our step: {shares}{recorded}"])


def _draw(folder: Path, images: int, width: int, height: int) -> CocoDataset:
    root = folder / "shapes"
    make_shapes(root, ShapesSettings(train_images=images, val_images=1, width=width, height=height))
    return load_coco(root / "instances_train.json", root / "images")


if __name__ == "__main__":
    main()
