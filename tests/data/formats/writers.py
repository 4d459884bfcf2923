"""One tiny data set, written in each format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 24, 20
CLASSES = ("cat", "dog", "owl")
FOLDER = {"train": "train", "val": "valid", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with its objects, (label, x, y, width, height) in pixels, labels from 1."""

    name: str
    seed: int
    boxes: Sequence[tuple[int, float, float, float, float]]


SAMPLES: Mapping[str, Sequence[Sample]] = {
    "train": [
        Sample(name="a", seed=1, boxes=[(2, 3, 4, 10, 11), (1, 0, 0, 5, 6)]),
        Sample(name="b", seed=2, boxes=[(3, 1, 1, 23, 19)]),
        Sample(name="c", seed=3, boxes=[]),
    ],
    "val": [Sample(name="d", seed=4, boxes=[(1, 7, 7, 7, 7)]), Sample(name="e", seed=5, boxes=[(2, 2, 3, 4, 5)])],
    "test": [Sample(name="f", seed=6, boxes=[(3, 9, 2, 13, 17), (2, 9, 2, 4, 4)])],
}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def coco_document(samples: Sequence[Sample], first_id: int = 1) -> dict[str, list[dict[str, object]]]:
    boxes = [(number, box) for number, sample in enumerate(samples, start=1) for box in sample.boxes]
    return {
        "images": [
            {"id": number, "file_name": f"{sample.name}.png", "width": WIDTH, "height": HEIGHT}
            for number, sample in enumerate(samples, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": image_id, "category_id": box[0] + first_id - 1, "bbox": list(box[1:])}
            for number, (image_id, box) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=first_id)],
    }


def write_coco_files(root: Path, first_id: int = 1) -> None:
    for role, samples in SAMPLES.items():
        for sample in samples:
            draw(root / "images" / f"{sample.name}.png", sample.seed)
        (root / f"instances_{role}.json").write_text(json.dumps(coco_document(samples, first_id)))


def write_coco_as_cvat_does(root: Path) -> None:
    """A file and an image folder for each subset; the ids of all annotations are 0, as older versions write them."""
    (root / "annotations").mkdir(parents=True)
    for role, samples in SAMPLES.items():
        subset = {"train": "Train", "val": "Validation", "test": "Test"}[role]
        document = coco_document(samples)
        for row in document["annotations"]:
            row |= {"id": 0, "iscrowd": 0, "segmentation": [], "attributes": {"occluded": False}}
        for sample in samples:
            draw(root / "images" / subset / f"{sample.name}.png", sample.seed)
        (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps({"licenses": [], **document}))


def write_roboflow(root: Path) -> None:
    for role, samples in SAMPLES.items():
        document = coco_document(samples)
        for row in document["categories"]:
            row["supercategory"] = "pets"
        document["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        for sample in samples:
            draw(root / FOLDER[role] / f"{sample.name}.png", sample.seed)
        (root / FOLDER[role] / "_annotations.coco.json").write_text(json.dumps(document))


def yolo_text(sample: Sample) -> str:
    return "".join(
        f"{label - 1} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f}\n"
        for label, x, y, w, h in sample.boxes
    )


def outline_text(sample: Sample) -> str:
    """The boxes as outlines with a corner in the middle of each edge."""
    lines = []
    for label, x, y, w, h in sample.boxes:
        corners = [(x + w / 2, y), (x + w, y + h / 2), (x + w / 2, y + h), (x, y + h / 2)]
        lines.append(f"{label - 1} " + " ".join(f"{cx / WIDTH:.6f} {cy / HEIGHT:.6f}" for cx, cy in corners) + "\n")
    return "".join(lines)


def write_yolo(root: Path, images: str = "{split}/images", text: Callable[[Sample], str] = yolo_text) -> None:
    """Images in ``images``, and labels in the same folder with ``labels`` for ``images``; nothing names the classes.

    An image without objects has no label file.
    """
    for role, samples in SAMPLES.items():
        folder = root / images.format(split=FOLDER[role])
        labels = root / images.format(split=FOLDER[role]).replace("images", "labels")
        labels.mkdir(parents=True, exist_ok=True)
        for sample in samples:
            draw(folder / f"{sample.name}.png", sample.seed)
            if sample.boxes:
                (labels / f"{sample.name}.txt").write_text(text(sample))


def write_yolo_as_roboflow_does(root: Path) -> None:
    write_yolo(root)
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\nnames: ['cat', 'dog', 'owl']\n"
    )


def write_yolo_as_ultralytics_does(root: Path) -> None:
    write_yolo(root, "images/{split}", outline_text)
    (root / "pets.yaml").write_text(
        f"path: ../datasets/{root.name} # root\ntrain: images/train\nval: images/valid\ntest: images/test\n"
        "names:\n  0: cat\n  1: dog\n  2: owl\n"
    )


def write_yolo_with_a_list(root: Path) -> None:
    write_yolo(root, "images/{split}")
    (root / "classes.txt").write_text("cat\ndog\nowl\n")


def write_yolo_as_darknet_does(root: Path) -> None:
    write_yolo(root, "obj_{split}_data")
    for role, folder in FOLDER.items():
        names = "".join(f"data/obj_{folder}_data/{sample.name}.png\n" for sample in SAMPLES[role])
        (root / f"{folder}.txt").write_text(names)
    (root / "obj.names").write_text("cat\ndog\nowl\n")
    (root / "obj.data").write_text("classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")


def voc_xml(sample: Sample, first_pixel: int = 1, *, size: bool = True) -> str:
    objects = "".join(
        f"<object><name>{CLASSES[label - 1]}</name><pose>Unspecified</pose><difficult>0</difficult><bndbox>"
        f"<xmin>{x + first_pixel}</xmin><ymin>{y + first_pixel}</ymin><xmax>{x + w}</xmax><ymax>{y + h}"
        "</ymax></bndbox></object>\n"
        for label, x, y, w, h in sample.boxes
    )
    stated = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>\n<filename>{sample.name}.png</filename>{stated}\n{objects}</annotation>\n"


def write_voc(root: Path) -> None:
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for role, samples in SAMPLES.items():
        for sample in samples:
            draw(root / "JPEGImages" / f"{sample.name}.png", sample.seed)
            (root / "Annotations" / f"{sample.name}.xml").write_text(voc_xml(sample))
        (root / "ImageSets" / "Main" / f"{role}.txt").write_text("".join(f"{each.name}\n" for each in samples))


def write_voc_in_a_devkit(root: Path) -> None:
    write_voc(root / "VOCdevkit" / "VOC2012")


def write_voc_beside_the_images(root: Path, first_pixel: int = 1) -> None:
    for role, samples in SAMPLES.items():
        for sample in samples:
            draw(root / FOLDER[role] / f"{sample.name}.png", sample.seed)
            (root / FOLDER[role] / f"{sample.name}.xml").write_text(voc_xml(sample, first_pixel, size=False))


def write_voc_that_counts_from_0(root: Path) -> None:
    write_voc_beside_the_images(root, 0)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "coco of cvat": ("coco", write_coco_as_cvat_does),
    "roboflow": ("roboflow", write_roboflow),
    "yolo of roboflow": ("yolo", write_yolo_as_roboflow_does),
    "yolo of ultralytics": ("yolo", write_yolo_as_ultralytics_does),
    "yolo with a list of classes": ("yolo", write_yolo_with_a_list),
    "yolo of darknet": ("yolo", write_yolo_as_darknet_does),
    "voc": ("voc", write_voc),
    "voc in a devkit": ("voc", write_voc_in_a_devkit),
    "voc beside the images": ("voc", write_voc_beside_the_images),
    "voc that counts from 0": ("voc", write_voc_that_counts_from_0),
}


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
