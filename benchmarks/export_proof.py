"""Exported files beside their detectors on real images, for every kind of detector.

    python benchmarks/export_proof.py --data DIR [--annotations instances_val.json] [--images 50] [--size 320x240]
        [--train-images 160] [--norms gn bn] [--output benchmarks/export_proof.json]

``DIR`` has ``images/`` and the COCO annotation file. Every pair of RPN and head on a pyramid, and every head on c4, is
trained for one epoch of ``--train-images`` images, so that its scores are those of a detector and no noise, exported,
and run on ``--images`` images in ONNX Runtime and in torch. Two detections are equal if their corners are within 0.01
px of the input and their scores within 1e-4. Of a thousand, one may have no equal: a tie that the order of sums
decides.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from common import command_line, markdown_table, measured_on

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch
from smnas_optuna.config import TrainSettings
from smnas_optuna.data import CocoDataset, DetectionLoader, load_coco
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.train import train
from smnas_optuna.export import export_detector
from smnas_optuna.models import Detector, build_detector
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import Runner, open_runner
from smnas_optuna.session.shipped import timed_description
from smnas_optuna.session.timing import spread_evenly
from smnas_optuna.ship.comparison import Agreement, Objects, agreement

HEADS = ("fc-w128", "cascade2-w128", "cascade3-w128", "cascade4-w128")
KINDS = (
    "{size}.resnet18-w16.fpn-p3-p6-c64.none.retina",
    *(f"{{size}}.resnet18-w16.fpn-p2-p5-c64.{rpn}.{head}" for rpn in ("rpn", "ga") for head in HEADS),
    *(f"{{size}}.resnet18-w16.c4.{rpn}.{head.partition('-')[0]}" for rpn in ("rpn", "ga") for head in HEADS),
)
RECIPE = {"epochs": 1, "batch_size": 4, "optimizer": "adamw", "learning_rate": 6e-3}


def main() -> None:
    """Compare all kinds, print a table and write the JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--annotations", default="instances_val.json")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--train-images", type=int, default=160)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--norms", nargs="+", choices=("gn", "bn"), default=["gn"])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/export_proof.json"))
    arguments = parser.parse_args()
    dataset = load_coco(arguments.data / arguments.annotations, arguments.data / "images")
    results: dict[str, dict[str, Any]] = {}
    for norm in arguments.norms:
        for kind in KINDS:
            arch = kind.format(size=arguments.size)
            detector = trained(arch, norm, spread_evenly(dataset, arguments.train_images))
            proof = compare(detector, spread_evenly(dataset, arguments.images))
            results[f"{arch}, {norm}"] = {
                "compared": proof.compared,
                "equal": proof.equal,
                "box_px": proof.box_px,
                "score": proof.score,
                "holds": proof.holds,
            }
            print(f"{arch}, {norm}: {proof}", flush=True)
    print(table(results))
    settings = {name: getattr(arguments, name) for name in ("annotations", "images", "train_images", "size")}
    about = {"data": arguments.data.resolve().name, **settings, "recipe": RECIPE}
    write_json(arguments.output, {**about, **measured_on(torch.device("cpu")), "results": results})
    assert all(each["holds"] for each in results.values()), "an exported file differs from its detector"


def trained(arch: str, norm: str, dataset: CocoDataset) -> Detector:
    """Return a detector after an epoch of ``dataset``."""
    torch.manual_seed(0)
    constants = DetectorConstants(
        train_proposals=200, test_proposals=200, guided_proposals=100, roi_samples=64, score_threshold=0.01, norm=norm
    )
    detector = build_detector(decode(arch), dataset.num_classes, constants)
    settings = TrainSettings.model_validate(RECIPE)
    train(detector, _loader(detector, dataset, settings.batch_size, train=True), settings)
    return detector.eval()


@torch.inference_mode()
def compare(detector: Detector, dataset: CocoDataset) -> Agreement:
    """Return how many detections in ``dataset`` the exported file has as its detector has them."""
    description = timed_description(detector)
    runner = open_runner(DetectorFile.of(export_detector(detector, description), "the file"), "onnxruntime")
    rules, proofs = detector.selection, [Agreement()]
    for batch in _loader(detector, dataset, 1, train=False).epoch(0):
        (found,) = detector.detect(replace(batch, original_sizes=batch.sizes))
        expected = Objects(**{name: found[name].numpy() for name in ("boxes", "labels", "scores")})
        proofs.append(
            agreement(expected, _of_file(runner, batch), slots=rules.max_detections, threshold=rules.score_threshold)
        )
    return reduce(add, proofs)


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return a row for each detector."""
    rows = [
        (f"`{name}`", f"{each['equal']:,} of {each['compared']:,}", f"{each['box_px']:.1g}", f"{each['score']:.1g}")
        for name, each in results.items()
    ]
    return markdown_table(("detector", "equal detections", "box, px", "score"), rows)


def _of_file(runner: Runner, batch: Batch) -> Objects:
    """Return what the file finds in an image, in pixels of the canvas."""
    found = runner.run(batch.images.numpy(), batch.sizes.numpy())
    count = int(found.counts[0])
    return Objects(boxes=found.boxes[0, :count], labels=found.labels[0, :count], scores=found.scores[0, :count])


def _loader(detector: Detector, dataset: CocoDataset, batch_size: int, *, train: bool) -> DetectionLoader:
    return DetectionLoader(
        dataset,
        long=detector.long,
        short=detector.short,
        batch_size=batch_size,
        device=torch.device("cpu"),
        seed=0,
        train=train,
    )


if __name__ == "__main__":
    main()
