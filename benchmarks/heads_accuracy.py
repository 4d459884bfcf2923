"""Do our batched heads train as well as torchvision's? AP of both over three seeds, everything else equal.

    python benchmarks/heads_accuracy.py [--study studies/shapes] [--seeds 3] [--output benchmarks/heads_accuracy.json]

One detector of the study (RPN and 2-FC head) is trained with the study's recipe, once with our heads and once with
torchvision's ``RegionProposalNetwork`` and ``RoIHeads`` behind the same backbone and pyramid. Goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from resumable import stored_results
from shapes_pay import load_bench
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision_loop import torchvision_detector

from smnas_optuna.arch import decode
from smnas_optuna.batch import Batch
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.evaluate import coco_metrics, detect
from smnas_optuna.engine.train import train
from smnas_optuna.models import Detector
from smnas_optuna.session.testbed import Testbed

ARCH = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"


class TorchvisionHeads(nn.Module):
    """Torchvision's RPN and RoI heads under the contract of our heads, image by image; crowd regions are left out."""

    def __init__(self, rpn: nn.Module, roi_heads: nn.Module) -> None:
        super().__init__()
        self.rpn, self.roi_heads = rpn, roi_heads

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN."""
        objects = batch.objects
        targets = [
            {"boxes": batch.boxes[image][objects[image]], "labels": batch.labels[image][objects[image]]}
            for image in range(len(batch))
        ]
        images = _image_list(batch)
        proposals, rpn_losses = self.rpn(images, features, targets)
        _, roi_losses = self.roi_heads(features, proposals, images.image_sizes, targets)
        return {**rpn_losses, **roi_losses}

    def detect(self, features: dict[str, Tensor], batch: Batch) -> list[dict[str, Tensor]]:
        """Detections in pixels of the canvas."""
        images = _image_list(batch)
        proposals, _ = self.rpn(images, features)
        found: list[dict[str, Tensor]] = self.roi_heads(features, proposals, images.image_sizes)[0]
        return found


def _image_list(batch: Batch) -> ImageList:
    return ImageList(batch.images, [(int(height), int(width)) for height, width in batch.sizes.tolist()])


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/heads_accuracy.json"))
    arguments = parser.parse_args()
    testbed = load_bench(arguments.study)
    about = {
        "arch": ARCH,
        "recipe": testbed.settings.train.model_dump(mode="json"),
        "data": testbed.splits.content_hash,
        "device": describe_device(testbed.device),
        "versions": library_versions(),
    }
    results = {"ours": {}, "torchvision": {}, **stored_results(parser, arguments.output, about)}
    for seed in range(arguments.seeds):
        for name, runs in results.items():
            if str(seed) not in runs:
                runs[str(seed)] = measure(testbed, seed, torchvision=name == "torchvision")
                write_json(arguments.output, {**about, "results": results})
                print(f"{name}, seed {seed}: {runs[str(seed)]}", flush=True)
    print("| heads | AP (x100) | sd | training (s) |\n| --- | --- | --- | --- |")
    for name, runs in results.items():
        aps, seconds = ([run[key] for run in runs.values()] for key in ("ap", "seconds"))
        sd = statistics.stdev(aps) if len(aps) > 1 else float("nan")
        print(f"| {name} | {100 * statistics.mean(aps):.1f} | {100 * sd:.1f} | {statistics.mean(seconds):.0f} |")


def measure(testbed: Testbed, seed: int, *, torchvision: bool) -> dict[str, float]:
    """Train once and return AP (0 to 1) and the seconds of the training."""
    spec, num_classes = decode(ARCH), testbed.splits.train.num_classes
    detector = testbed.build(spec, seed)
    if torchvision:
        theirs = torchvision_detector(detector, spec, num_classes, testbed.settings.detector.constants())
        heads = TorchvisionHeads(theirs.rpn, theirs.roi_heads)
        size = spec.input_size
        detector = Detector(detector.backbone, detector.neck, heads, long=size.long, short=size.short).to(
            testbed.device
        )
    torch.manual_seed(seed)
    start = time.perf_counter()
    train(detector, testbed.train_batches(spec.input_size, seed), testbed.settings.train)
    seconds = time.perf_counter() - start
    found = detect(detector, testbed.val_batches(spec.input_size), testbed.splits.val.category_ids)
    metrics = coco_metrics(testbed.splits.val.ground_truth(), found)
    return {"ap": metrics.ap, "seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
