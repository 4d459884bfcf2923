"""Cost of starting a process of a search as the data grow: the first start, and each later one.

    python benchmarks/data_start.py [--images 2000 20000 118287] [--output benchmarks/data_start.json]

The data are drawn: COCO's number of boxes and of corners of their outlines for each image, and a validation image for
each 24 training images, so that 118,287 images are the size of COCO 2017 (448 MB of annotations there). The images are
small, as they are only decoded at the first start. Each start is a process of its own, which reads the data as a search
does. Printed are its seconds by the clock and of processor time, its largest memory and the memory that it keeps, both
without what the imports take, and the growth law: the power of the number of images that fits best.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import command_line, markdown_table
from PIL import Image

from smnas_optuna.allowance import processor_name
from smnas_optuna.engine.device import library_versions
from smnas_optuna.engine.durable import write_json

WIDTH, HEIGHT = 64, 48
BOXES = 860_001 / 118_287
"""Boxes of an image, mean of COCO 2017's training images."""
CORNERS = 25
"""Corners of an outline; with them the file of 118,287 images has about COCO's size."""
TRAIN_PER_VAL = 118_287 / 5_000
CLASSES = 80

_START = """
import json, sys, time
from pathlib import Path
from smnas_optuna.config import DataSettings
from smnas_optuna.session import prepare
from smnas_optuna.data import load_splits

def memory(field):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024

imported, begun, used = memory("VmRSS"), time.perf_counter(), time.process_time()
splits = load_splits(Path(sys.argv[1]), DataSettings(val="val.json", train="train.json"), cache=Path(sys.argv[2]))
seconds = time.perf_counter() - begun
boxes = sum(len(image.boxes) for image in splits.train.images)
print(json.dumps({
    "seconds": seconds, "processor_s": time.process_time() - used,
    "peak_mib": memory("VmHWM") - imported, "kept_mib": memory("VmRSS") - imported,
    "images": len(splits.train.images) + len(splits.val.images), "boxes": boxes, "hash": splits.content_hash,
}))
"""


def draw_data(root: Path, num_train: int) -> None:
    """Write ``num_train`` training images, the validation images that belong to them, and both annotation files."""
    (root / "images").mkdir(parents=True)
    first = 1
    for number, (split, count) in enumerate((("train", num_train), ("val", max(1, round(num_train / TRAIN_PER_VAL))))):
        ids = range(first, first + count)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda image_id: _draw_image(root / "images" / f"{image_id:012}.png", image_id), ids))
        (root / f"{split}.json").write_text(json.dumps(_document(ids, seed=number)))
        first += count


def _draw_image(path: Path, image_id: int) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[0, 0] = image_id % 256, image_id // 256 % 256, image_id // 65536
    pixels[1:] = 200
    Image.fromarray(pixels).save(path, compress_level=1)


def _document(ids: Sequence[int], *, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    counts = random.poisson(BOXES, len(ids))
    total = int(counts.sum())
    corners = random.uniform(0, (WIDTH - 12, HEIGHT - 12), (total, 2)).round(2)
    sizes = random.uniform(2, 12, (total, 2)).round(2)
    outlines = random.uniform(0, HEIGHT, (total, 2 * CORNERS)).round(2)
    owners, classes = np.repeat(np.array(ids), counts), random.integers(1, CLASSES + 1, total)
    return {
        "images": [
            {"id": image_id, "file_name": f"{image_id:012}.png", "height": HEIGHT, "width": WIDTH} for image_id in ids
        ],
        "annotations": [
            {
                "id": 10_000_000 * seed + place,
                "image_id": int(owners[place]),
                "category_id": int(classes[place]),
                "bbox": [*corners[place].tolist(), *sizes[place].tolist()],
                "area": float(sizes[place].prod()),
                "iscrowd": 0,
                "segmentation": [outlines[place].tolist()],
            }
            for place in range(total)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)],
    }


def start(root: Path, cache: Path) -> dict[str, Any]:
    """Start a process that reads the data in ``root``, and return what it measured."""
    command = [sys.executable, "-c", _START, str(root), str(cache)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(result.stdout))


def growth(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the power of the size that fits the values best: the slope of a line through their logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(sizes) > 1 else math.nan


def main() -> None:
    """Draw data of each size, start twice on it, and print a table."""
    parser = command_line(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20_000, 118_287], help="training images")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"first": [], "second": []}
    for num_train in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder) / "data", Path(folder) / "cache"
            draw_data(root, num_train)
            for which in found:
                found[which].append(start(root, cache))
                print(f"{num_train:,} images, {which} start: {found[which][-1]}", file=sys.stderr, flush=True)
            assert found["first"][-1]["hash"] == found["second"][-1]["hash"]
    fields = {"seconds": "s", "processor_s": "s of processor time", "peak_mib": "MiB at most", "kept_mib": "MiB kept"}
    rows = [
        [f"{images:,}", which, *(f"{found[which][place][name]:.3g}" for name in fields)]
        for place, images in enumerate(arguments.images)
        for which in found
    ]
    laws = {
        which: {name: growth(arguments.images, [each[name] for each in some]) for name in fields}
        for which, some in found.items()
    }
    rows += [["grows with images to the", which, *(f"{laws[which][name]:.2f}" for name in fields)] for which in found]
    print(markdown_table(["training images", "start", *fields.values()], rows))
    if arguments.output is not None:
        conditions = {"device": processor_name(), "versions": library_versions()}
        write_json(arguments.output, {**conditions, "starts": found, "growth": laws})


if __name__ == "__main__":
    main()
