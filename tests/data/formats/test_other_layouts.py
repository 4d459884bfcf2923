"""Boxes of YOLO and VOC whose four numbers are in another order: refused, and the order named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.errors import DataError
from tests.data.hostile import check_message

WIDTH, HEIGHT = 64, 48
Change = Callable[[float, float, float, float], tuple[float, float, float, float]]


def _boxes(seed: int) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) in parts of the image."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.05, 0.4, (30, 2))
    starts = rng.uniform(0, 1, (30, 2)) * (1 - sizes)
    return [(float(x), float(y), float(w), float(h)) for (x, y), (w, h) in zip(starts, sizes, strict=True)]


def _write_yolo(root: Path, seed: int, change: Change) -> None:
    (root / "classes.txt").write_text("cat\n")
    for number in range(2):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / f"{number}.png")
        lines = [" ".join(f"{each:.6f}" for each in change(*box)) for box in _boxes(10 * seed + number)]
        (root / f"{number}.txt").write_text("".join(f"0 {line}\n" for line in lines))


def _write_voc(root: Path, seed: int, change: Change) -> None:
    for number in range(2):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / f"{number}.png")
        text = f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        for x, y, w, h in _boxes(10 * seed + number):
            corners = change(1 + x * WIDTH, 1 + y * HEIGHT, w * WIDTH - 1, h * HEIGHT - 1)
            box = "".join(
                f"<{name}>{each}</{name}>" for name, each in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            )
            text += f"<object><name>cat</name><bndbox>{box}</bndbox></object>"
        (root / f"{number}.xml").write_text(f"{text}</annotation>")


YOLO: dict[str, Change] = {
    "(x1, y1, x2, y2)": lambda x, y, w, h: (x, y, x + w, y + h),
    "(x, y, width, height)": lambda x, y, w, h: (x, y, w, h),
}
VOC: dict[str, Change] = {
    "(x, y, width, height)": lambda x, y, w, h: (x, y, w, h),
    "(centre x, centre y, width, height)": lambda x, y, w, h: (x + w / 2, y + h / 2, w, h),
    "(y1, x1, y2, x2)": lambda x, y, w, h: (y, x, y + h, x + w),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layout", YOLO)
def test_other_numbers_than_centres_are_refused(layout: str, seed: int, tmp_path: Path) -> None:
    _write_yolo(tmp_path, seed, YOLO[layout])
    with pytest.raises(DataError) as error:
        load_datasets(tmp_path, DataSettings())
    check_message(error.value)
    assert error.value.message.startswith(
        f"{tmp_path}/classes.txt: the boxes of the label files look like {layout}, not (centre x, centre y, width, "
        "height): as the latter "
    )
    assert error.value.message.endswith(" of 60 fit into their images, and as the former 60")
    assert error.value.first == "0.txt, line 1"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layout", VOC)
def test_other_numbers_than_corners_are_refused(layout: str, seed: int, tmp_path: Path) -> None:
    _write_voc(tmp_path, seed, VOC[layout])
    with pytest.raises(DataError) as error:
        load_datasets(tmp_path, DataSettings(drop_empty_boxes=True))
    check_message(error.value)
    assert error.value.message.startswith(
        f"{tmp_path}: the boxes of the XML files look like {layout}, not (xmin, ymin, xmax, ymax): as the latter "
    )
    assert str(error.value.first).startswith("0.xml, object 1, (")
    assert ("are swapped" in error.value.fix) == (layout == "(y1, x1, y2, x2)")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("format_", ["yolo", "voc"])
def test_the_right_order_is_read(format_: str, seed: int, tmp_path: Path) -> None:
    if format_ == "yolo":
        _write_yolo(tmp_path, seed, lambda x, y, w, h: (x + w / 2, y + h / 2, w, h))
    else:
        _write_voc(tmp_path, seed, lambda x, y, w, h: (x, y, x + w, y + h))
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert [len(image.boxes) for image in loaded["train"].images] == [30, 30]
    assert not any("border" in note for note in loaded["train"].notes)


def test_outlines_are_no_boxes_in_another_order(tmp_path: Path) -> None:
    _write_yolo(tmp_path, 1, lambda x, y, w, h: (x + w / 2, y + h / 2, w, h))
    for number in range(2):
        lines = [f"0 {x:.6f} {y:.6f} {x + w:.6f} {y:.6f} {x:.6f} {y + h:.6f}\n" for x, y, w, h in _boxes(50 + number)]
        (tmp_path / f"{number}.txt").write_text("".join(lines))
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert [len(image.boxes) for image in loaded["train"].images] == [30, 30]
