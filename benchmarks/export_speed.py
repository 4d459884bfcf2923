"""Speed of exported files: ONNX Runtime (and OpenVINO) beside eager torch, in alternation, one thread, batch 1.

    python benchmarks/export_speed.py [--cases small middle r18 r50] [--norms gn] [--seconds 60] [--threads 1]
        [--study STUDY_DIR] [--output benchmarks/export_speed.json] [--profile FOLDER]

Every detector detects from the same uint8 pixels to boxes. Runs alternate in short blocks, and the ratio of the 10th
percentiles counts, as in a search. Weights are random and every candidate passes the threshold, so that
post-processing does as much as it can; with ``--study`` those of the study's front members that are kept, with its
threshold. ``--profile`` writes what each operator of the file takes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import command_line, markdown_table, measured_on

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch
from smnas_optuna.config import ShapesSettings
from smnas_optuna.data import DetectionLoader, load_coco
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.checkpoint import WEIGHTS_FILE, load_weights
from smnas_optuna.engine.durable import write_json
from smnas_optuna.export import export_detector
from smnas_optuna.models import Detector, build_detector, fold_for_inference
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import FREE_DIMENSIONS, Runtime
from smnas_optuna.runtime.sessions import open_runner
from smnas_optuna.study.folder import StudyFolder

EMBEDDED = DetectorConstants(
    anchor_scale=4, test_proposals=100, guided_proposals=50, score_threshold=0.0, max_detections=100
)
PAPER = DetectorConstants(test_proposals=300, guided_proposals=100, score_threshold=0.0)
TRAINED_THRESHOLD = 0.02
BLOCK = 5
IMAGES = 12


@dataclass(frozen=True, kw_only=True)
class Case:
    """A detector and its constants."""

    arch: str
    constants: DetectorConstants
    classes: int = 4


CASES = {
    "small": Case(arch="64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128", constants=EMBEDDED),
    "middle": Case(arch="128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", constants=EMBEDDED),
    "cascade": Case(arch="128x96.resnet34-w12.fpn-p2-p5-c32.ga.cascade3-w256", constants=EMBEDDED),
    "retina": Case(arch="128x96.resnet18-w16.fpn-p3-p5-c64.none.retina", constants=EMBEDDED),
    "c4": Case(arch="128x96.resnet18-w16.c4.rpn.fc", constants=EMBEDDED),
    "r18": Case(arch="320x240.resnet18-w64.fpn-p2-p6-c128.rpn.fc-w512", constants=EMBEDDED),
    "r50": Case(arch="320x240.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024", constants=PAPER),
}


def main() -> None:
    """Time the cases, print a table and write the JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["small", "middle", "r18", "r50"])
    parser.add_argument("--norms", nargs="+", choices=("gn", "bn"), default=["gn"])
    parser.add_argument("--seconds", type=float, default=60, help="of each detector")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runtimes", nargs="+", choices=("onnxruntime", "openvino"), default=["onnxruntime"])
    parser.add_argument("--study", type=Path, help="take trained weights from its runs, where there are some")
    parser.add_argument("--profile", type=Path, help="folder for a profile of each file")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/export_speed.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {}
    for name in arguments.cases:
        for norm in arguments.norms:
            with tempfile.TemporaryDirectory() as folder:
                result = run_case(CASES[name], norm, Path(folder), arguments)
            results[f"{name}, {norm}"] = result
            print(table(results), flush=True)
            write_json(arguments.output, {**measured_on(torch.device("cpu")), "results": results})


def run_case(case: Case, norm: str, folder: Path, arguments: Any) -> dict[str, Any]:
    """Return the milliseconds of one detector in each runtime, with the ratio of eager to it."""
    detector, trained = build(case, norm, arguments.study)
    batches = draw_images(folder, detector)
    start = time.perf_counter()
    content = export_detector(detector, describe(case))
    seconds = time.perf_counter() - start
    folded = fold_for_inference(detector)
    runs: dict[str, Callable[[Batch], int]] = {"eager": lambda batch: len(folded.detect(batch)[0]["scores"])}
    for runtime in arguments.runtimes:
        runs[runtime] = run_by(runtime, content, arguments.threads)
    if arguments.profile:
        profile(content, batches, arguments.threads, arguments.profile / f"{case.arch}.{norm}")
    times = alternate(runs, batches, arguments.seconds)
    tenths = {name: float(np.percentile(each, 10)) for name, each in times.items()}
    return {
        "arch": case.arch,
        "weights": "trained" if trained else "random",
        "export_seconds": round(seconds, 2),
        "mebibytes": round(len(content) / 2**20, 2),
        "detections": {name: [run(batch) for batch in batches] for name, run in runs.items()},
        "p10_ms": tenths,
        "eager_times": {name: tenths["eager"] / each for name, each in tenths.items()},
        "runs": {name: len(each) for name, each in times.items()},
    }


def describe(case: Case) -> FileDescription:
    """Return the description of a case's file."""
    size, names = decode(case.arch).input_size, tuple(f"class {number}" for number in range(case.classes))
    constants = dataclasses.asdict(case.constants)
    return FileDescription(
        arch=case.arch, classes=names, long=size.long, short=size.short, precision="fp32", constants=constants
    )


def build(case: Case, norm: str, study: Path | None) -> tuple[Detector, bool]:
    """Return the detector of a case, and True if its weights are trained."""
    constants = replace(case.constants, norm=norm)
    run = None if study is None else StudyFolder(study).run(case.arch)
    trained = run is not None and (run / WEIGHTS_FILE).exists()
    if trained:
        constants = replace(constants, score_threshold=TRAINED_THRESHOLD)
    torch.manual_seed(0)
    detector = build_detector(decode(case.arch), case.classes, constants).eval()
    if trained and run is not None:
        load_weights(run, detector)
    return detector, trained


def draw_images(folder: Path, detector: Detector) -> list[Batch]:
    """Return batches of one drawn image each."""
    make_shapes(folder / "shapes", ShapesSettings(train_images=1, val_images=IMAGES, width=320, height=240))
    dataset = load_coco(folder / "shapes" / "instances_val.json", folder / "shapes" / "images")
    loader = DetectionLoader(
        dataset,
        long=detector.long,
        short=detector.short,
        batch_size=1,
        device=torch.device("cpu"),
        seed=0,
        train=False,
    )
    return [batch for batch in loader.epoch(0) if batch.images.shape[2] <= batch.images.shape[3]]  # one canvas


@torch.inference_mode()
def alternate(runs: dict[str, Callable[[Batch], int]], batches: list[Batch], seconds: float) -> dict[str, list[float]]:
    """Return the milliseconds of every run; blocks of all of them take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # warm-up
        for batch in batches:
            run(batch)
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turn < 3:
        for name, run in runs.items():
            for number in range(BLOCK):
                batch = batches[(turn * BLOCK + number) % len(batches)]
                start = time.perf_counter()
                run(batch)
                times[name].append(1000 * (time.perf_counter() - start))
        turn += 1
    return times


def profiled_session(content: bytes, batch: Batch, threads: int, file: Path) -> Any:
    """Return a session of ONNX Runtime for the shape of ``batch`` that writes a profile."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    for name, size in zip(FREE_DIMENSIONS, (1, *batch.images.shape[2:]), strict=True):
        options.add_free_dimension_override_by_name(name, size)
    options.enable_profiling, options.profile_file_prefix = True, str(file)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_by(runtime: Runtime, content: bytes, threads: int) -> Callable[[Batch], int]:
    """Return what detects on a batch in ``runtime``, and returns the number of detections."""
    runner = open_runner(DetectorFile.of(content, "the exported detector"), runtime, num_threads=threads)
    return lambda batch: int(runner.run(batch.images.numpy(), batch.sizes.numpy()).counts[0])


def profile(content: bytes, batches: list[Batch], threads: int, file: Path) -> None:
    """Print the operators of ONNX Runtime that take most of the time, and write its profile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    session = profiled_session(content, batches[0], threads, file)
    repeats = 10
    for _ in range(repeats):
        for batch in batches:
            session.run(None, {"images": batch.images.numpy(), "sizes": batch.sizes.numpy()})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [each for each in events if each.get("cat") == "Node" and each["name"].endswith("_kernel_time")]
    by_kind: Counter[str] = Counter()
    by_node: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for each in nodes:
        kind = each["args"]["op_name"]
        by_kind[kind] += each["dur"]
        calls[kind] += 1
        by_node[f"{each['name'].removesuffix('_kernel_time')} ({kind})"] += each["dur"]
    count = repeats * len(batches)
    print(f"{file.name}: {sum(by_kind.values()) / count / 1000:.2f} ms in {len(nodes) // count} operators", flush=True)
    for kind, microseconds in by_kind.most_common(14):
        print(f"  {kind:24} {microseconds / count:8.0f} us in {calls[kind] // count}")
    for name, microseconds in by_node.most_common(int(os.environ.get("NODES", "0"))):
        print(f"    {name:80} {microseconds / count:8.0f} us")


def table(results: dict[str, Any]) -> str:
    """Return the milliseconds of each detector, and how many times as fast as eager each runtime is."""
    names = list(next(iter(results.values()))["p10_ms"])
    heads = ("detector", *(f"{name}, ms" for name in names), *(f"{name}, times eager" for name in names[1:]))
    rows = [
        (
            f"{case}: `{each['arch']}`",
            *(f"{each['p10_ms'][name]:.2f}" for name in names),
            *(f"{each['eager_times'][name]:.2f}" for name in names[1:]),
        )
        for case, each in results.items()
    ]
    return markdown_table(heads, rows)


if __name__ == "__main__":
    main()
