"""The embedded data set: drawn scenes in COCO format on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from smnas_optuna.config import ShapesSettings
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.scenes import CLASSES, MAX_OBJECTS, Scene, annotate, draw_scene
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_error

FORMAT_VERSION = 1  # increase it when the same settings no longer give the same images
MARKER_FILE = "shapes.json"
SPLITS = ("train", "val")

EMPTY_EVERY = 16  # every 16th image has clutter, but no objects
PORTRAIT_EVERY = 5  # every 5th image is portrait


def make_shapes(root: Path, settings: ShapesSettings, *, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Draw the data set into the folder ``root``, or do nothing if it exists already.

    Writes ``instances_train.json``, ``instances_val.json``, ``images/*.png`` and ``shapes.json`` (settings and
    version), atomically: ``root`` appears once it is complete. The same settings give the same bytes, and a larger
    number of images keeps the first ones. If several processes name one folder, one draws and the others wait.

    Args:
        root: Missing, empty, or the data set made with the same settings.
        settings: Numbers of images, their size in pixels (every fifth is portrait), and the seed.
        on_progress: Called after each image with (images drawn, total number of images).

    Raises:
        DataError: If ``root`` contains something else, or cannot be written.
    """
    root = root.resolve()
    partial = root.with_name(f".{root.name}.partial")
    try:
        if _is_made(root, settings):
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if _is_made(root, settings):
                return
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
            try:
                _write(partial, settings, on_progress)
                if root.exists():
                    root.rmdir()
                partial.rename(root)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{root}: cannot write the drawn data set: {quote_error(error)}",
            fix="free space there, or choose a writable folder",
        ) from error


def _is_made(root: Path, settings: ShapesSettings) -> bool:
    """Return True if ``root`` is this data set, False if it is missing or empty.

    Raises:
        DataError: If it is anything else.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    wanted = _marker(settings)
    try:
        found = read_json(root / MARKER_FILE)
    except (OSError, ValueError, MemoryError):
        found = None
    if found == wanted:
        return True
    fix = "choose another folder, or remove this one if it is not needed"
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise DataError(f"{root}: contains something other than the drawn data set", fix=fix)
    differing = [
        f"{key} is {quote(found[key])}, expected {value}" for key, value in wanted.items() if found[key] != value
    ]
    raise DataError(f"{root}: contains a drawn data set with other settings: {'; '.join(differing)}", fix=fix)


def _marker(settings: ShapesSettings) -> dict[str, int]:
    return {"format_version": FORMAT_VERSION, **settings.model_dump()}


def _write(folder: Path, settings: ShapesSettings, on_progress: Callable[[int, int], None] | None) -> None:
    (folder / "images").mkdir(parents=True)
    counts = (settings.train_images, settings.val_images)
    done = 0
    for split, count in enumerate(counts):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            scene = _draw_nth(settings, split, index)
            name = f"{SPLITS[split]}_{index:06d}.png"
            Image.fromarray(scene.pixels).save(folder / "images" / name)
            height, width = scene.owner.shape
            images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
            for annotation in annotate(scene):
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **annotation})
            done += 1
            if on_progress is not None:
                on_progress(done, sum(counts))
        categories = [{"id": category_id, "name": name} for category_id, (name, _) in CLASSES.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{SPLITS[split]}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / MARKER_FILE).write_text(json.dumps(_marker(settings), indent=2), encoding="utf-8")


def _draw_nth(settings: ShapesSettings, split: int, index: int) -> Scene:
    rng = np.random.default_rng([settings.seed, split, index])
    width, height = settings.width, settings.height
    if index % PORTRAIT_EVERY == PORTRAIT_EVERY - 1:
        width, height = height, width
    max_objects = 0 if index % EMPTY_EVERY == EMPTY_EVERY - 1 else MAX_OBJECTS
    return draw_scene(rng, width, height, max_objects=max_objects)
