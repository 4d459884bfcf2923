"""The command of Ultralytics, called as a process: data written for it, and its detections read back.

It is never imported, and gets one CPU thread and no network.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.data import CocoDataset
from smnas_optuna.engine.durable import write_json

FORMS = {"network": [], "with suppression": ["nms=True"]}
"""Exported files: the network alone, whose suppression is in its maker's program, and with suppression inside."""
DETECT = ["conf=0.001", "iou=0.7", "max_det=300"]
"""Thresholds with which Ultralytics validates; by default they detect from 0.25 on."""


@dataclass(frozen=True, kw_only=True)
class Outsider:
    """The command of the other program, and where it works.

    Attributes:
        yolo: The command.
        work: Folder of all that it writes.
        model: Its name for an architecture.
        size: Long edge of its input, pixels; a multiple of 32.
        input: (height, width) of the exported file, pixels.
    """

    yolo: Path
    work: Path
    model: str
    size: int
    input: tuple[int, int]

    def call(self, *arguments: str) -> float:
        """Run it, and return its processor seconds; exits if it fails."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
        environment |= {"YOLO_CONFIG_DIR": str(self.work / "settings")}
        with (self.work / "log.txt").open("a") as log:
            print("$ yolo", *arguments, file=log, flush=True)
            done = subprocess.run([self.yolo, *arguments], env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            sys.exit(f"error: yolo {' '.join(arguments)}: failed\n  fix: {self.work}/log.txt has the reason")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def train(self, name: str, epochs: int, seed: int, *more: str) -> float:
        """Train from scratch, and return its processor seconds; the best weights are in ``name``."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.call(
            "train", f"model={self.model}", "pretrained=False", f"data={self.work / 'data.yaml'}",
            f"imgsz={self.size}", f"epochs={epochs}", f"seed={seed}", "device=cpu", "amp=False", "workers=0",
            "plots=False", f"project={self.work}", f"name={name}", *more,
        )  # fmt: skip

    def export(self, name: str, form: str) -> Path:
        """Return the ONNX file of a training in one of ``FORMS``."""
        height, width = self.input
        weights = self.work / name / "weights" / "best.pt"
        file = self.work / f"{name}{'' if form == 'network' else '_nms'}.onnx"
        if not file.is_file():
            self.call("export", f"model={weights}", "format=onnx", f"imgsz={height},{width}", *FORMS[form],
                      *(DETECT if FORMS[form] else []))  # fmt: skip
            weights.with_suffix(".onnx").replace(file)
        return file

    def detect(self, file: Path, role: str, dataset: CocoDataset) -> Path:
        """Return the detections of ``file`` in the images of a role, in COCO's result format."""
        height, width = self.input
        output = file.with_name(f"{file.stem}_{role}.json")
        if not output.is_file():
            labels = self.work / "found" / "labels"
            shutil.rmtree(labels.parent, ignore_errors=True)
            self.call("predict", f"model={file}", "task=detect", f"source={self.work / 'images' / role}",
                      f"imgsz={height},{width}", *DETECT, "device=cpu", "save=False", "save_txt=True", "save_conf=True",
                      f"project={self.work}", "name=found", "verbose=False")  # fmt: skip
            write_json(output, coco_results(labels, dataset))
        return output


def write_yolo_data(work: Path, datasets: Mapping[str, CocoDataset]) -> None:
    """Write ``data.yaml``, a link to each image, named by its id, and a file of boxes for each; crowds are left out."""
    names = dict(enumerate(datasets["train"].category_names))
    lines = [f"path: {json.dumps(str(work))}", *(f"{role}: images/{role}" for role in datasets)]
    work.mkdir(parents=True, exist_ok=True)
    (work / "data.yaml").write_text("\n".join([*lines, f"names: {json.dumps(names)}", ""]))
    for role, dataset in datasets.items():
        images, labels = work / "images" / role, work / "labels" / role
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for image in dataset.images:
            link = images / f"{image.image_id}{image.path.suffix}"
            link.unlink(missing_ok=True)
            link.symlink_to(image.path.absolute())
            own = ~image.crowd
            x1, y1, x2, y2 = image.boxes[own].T / [[image.width], [image.height], [image.width], [image.height]]
            rows = zip(image.labels[own] - 1, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
            text = "".join(f"{row[0]} {' '.join(f'{value:.6f}' for value in row[1:])}\n" for row in rows)
            (labels / f"{image.image_id}.txt").write_text(text)


def coco_results(labels: Path, dataset: CocoDataset) -> list[dict[str, Any]]:
    """Return the lines ``class x y width height score`` of each image, in parts of it, as results in pixels."""
    results = []
    for image in dataset.images:
        file = labels / f"{image.image_id}.txt"
        for line in file.read_text().splitlines() if file.is_file() else ():
            label, x, y, width, height, score = map(float, line.split())
            box = [(x - width / 2) * image.width, (y - height / 2) * image.height]
            box += [width * image.width, height * image.height]
            category = dataset.category_ids[int(label)]
            results.append({"image_id": image.image_id, "category_id": category, "bbox": box, "score": score})
    return results
