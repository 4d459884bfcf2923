from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import ShapesSettings
from smnas_optuna.data.scenes import CLASSES, MIN_VISIBLE, Scene, annotate, draw_scene, rasterise
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.errors import DataError
from tests.data.hostile import check_message, time_limit

SETTINGS = ShapesSettings(train_images=20, val_images=8, seed=3)
TINY = ShapesSettings(train_images=3, val_images=2, width=64, height=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes") / "set"
    make_shapes(root, SETTINGS)
    return root


def read_coco(root: Path, split: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / f"instances_{split}.json").read_text())
    return content


def read_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def list_visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize(("split", "count"), [("train", 20), ("val", 8)])
def test_files_are_coco(made: Path, split: str, count: int) -> None:
    coco = read_coco(made, split)

    assert [image["id"] for image in coco["images"]] == list(range(1, count + 1))
    assert [category["id"] for category in coco["categories"]] == list(CLASSES)
    assert [annotation["id"] for annotation in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    for image in coco["images"]:
        with Image.open(made / "images" / image["file_name"]) as picture:
            assert (picture.size, picture.mode) == ((image["width"], image["height"]), "RGB")


def test_boxes_lie_inside_their_image(made: Path) -> None:
    coco = read_coco(made, "train")
    sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}

    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        image_width, image_height = sizes[annotation["image_id"]]
        assert x >= 0
        assert y >= 0
        assert width > 0
        assert height > 0
        assert x + width <= image_width
        assert y + height <= image_height
        assert 0 < annotation["area"] <= width * height


def test_a_small_set_has_every_class_both_orientations_and_images_without_objects(made: Path) -> None:
    coco = read_coco(made, "train")
    counts = [sum(a["image_id"] == image["id"] for a in coco["annotations"]) for image in coco["images"]]

    assert {annotation["category_id"] for annotation in coco["annotations"]} == set(CLASSES)
    assert {(image["width"], image["height"]) for image in coco["images"]} == {(256, 192), (192, 256)}
    assert counts.count(0) == 1
    assert max(counts) <= 12


def test_the_same_settings_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "again", SETTINGS)

    assert read_bytes(tmp_path / "again") == read_bytes(made)


def test_more_images_keep_the_first_ones(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "few", SETTINGS.model_copy(update={"train_images": 4, "val_images": 2}))

    few, many = read_coco(tmp_path / "few", "train"), read_coco(made, "train")
    assert few["images"] == many["images"][:4]
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]
    images = read_bytes(tmp_path / "few" / "images")
    assert images.items() <= read_bytes(made / "images").items()
    assert len(images) == 6


def test_every_image_of_every_seed_is_another(tmp_path: Path) -> None:
    contents: list[bytes] = []
    for seed in (0, 1):
        make_shapes(tmp_path / str(seed), TINY.model_copy(update={"seed": seed}))
        contents += read_bytes(tmp_path / str(seed) / "images").values()

    assert len(set(contents)) == 10


@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_tight_around_what_can_be_seen(seed: int) -> None:
    scene = draw_scene(np.random.default_rng(seed), 256, 192)

    annotations = annotate(scene)

    assert len(annotations) == len(scene.category_ids) > 0
    for index, annotation in enumerate(annotations):
        x, y, width, height = annotation["bbox"]
        mask = scene.owner == index
        inside = mask[y : y + height, x : x + width]
        assert inside.sum() == mask.sum() == annotation["area"]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


def test_an_annotation_counts_the_visible_part_in_x_y_width_height() -> None:
    owner = np.full((6, 8), -1)
    owner[1:4, 2:7] = 0
    owner[3:5, 5:8] = 1
    scene = Scene(pixels=np.zeros((6, 8, 3), dtype=np.uint8), category_ids=(5, 2), owner=owner)

    assert annotate(scene) == [
        {"category_id": 5, "bbox": [2, 1, 5, 3], "area": 13, "iscrowd": 0},
        {"category_id": 2, "bbox": [5, 3, 3, 2], "area": 6, "iscrowd": 0},
    ]


@pytest.mark.parametrize("seed", range(4))
def test_pixels_change_where_an_object_is_said_to_be(seed: int) -> None:
    with_objects = draw_scene(np.random.default_rng(seed), 128, 96, max_objects=12)
    background = draw_scene(np.random.default_rng(seed), 128, 96, max_objects=0)

    # the same seed: the same background, but for distractors, blur and noise
    change = np.abs(with_objects.pixels.astype(int) - background.pixels.astype(int)).sum(axis=2)
    assert change[with_objects.owner >= 0].mean() > 8 * np.median(change[with_objects.owner < 0])


def test_enough_of_every_object_can_be_seen() -> None:
    smallest_share = 1.0
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), 256, 192)
        for index in range(len(scene.category_ids)):
            mask = scene.owner == index
            rows, columns = np.nonzero(mask)
            if min(rows.min(), columns.min()) > 0 and rows.max() < 191 and columns.max() < 255:
                smallest_share = min(smallest_share, mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))

    # the sparsest shape, a crescent, covers about a third of its box
    assert smallest_share > MIN_VISIBLE * 0.3


@pytest.mark.parametrize("category_id", CLASSES)
def test_glyphs_fit_the_unit_circle_and_hold_their_ink(category_id: int) -> None:
    glyph = CLASSES[category_id][1]

    polygons = [(points + 1.25) * 40 for points in (glyph.body, *glyph.ink)]
    body, *ink = (rasterise([points], (0, 0), 100, 100) for points in polygons)

    # a square's corners reach out a little
    assert np.hypot(*glyph.body.T).max() <= 1.17
    assert all((cover <= body + 1e-9).all() for cover in ink)


def test_a_rasterised_square_covers_its_pixels_exactly() -> None:
    square = np.array([(11, 21), (14, 21), (14, 23.5), (11, 23.5)])

    cover = rasterise([square], (10, 20), 6, 5)

    expected = np.zeros((5, 6))
    expected[1:3, 1:4] = 1
    expected[3, 1:4] = 0.5
    assert cover == pytest.approx(expected, abs=0.26)  # a quarter of a pixel: the supersampling
    assert (cover >= 0.5).sum() == 9


def test_classes_have_a_hole_in_their_ids_and_names_of_their_own() -> None:
    assert len(CLASSES) == 10
    assert list(CLASSES) != list(range(1, 11))
    assert len({name for name, _ in CLASSES.values()}) == 10


def test_progress_is_told_per_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    make_shapes(tmp_path / "set", TINY, on_progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_set_that_is_there_is_left_alone(tmp_path: Path) -> None:
    make_shapes(tmp_path / "set", TINY)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}

    make_shapes(tmp_path / "set", TINY, on_progress=lambda *_: pytest.fail("drawn again"))

    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == times


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()

    make_shapes(tmp_path / "set", TINY)

    assert list_visible(tmp_path / "set") == ["images", "instances_train.json", "instances_val.json", "shapes.json"]


def test_interrupted_making_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "set", TINY, on_progress=interrupt)
    assert list_visible(tmp_path) == []

    make_shapes(tmp_path / "set", TINY)
    make_shapes(tmp_path / "reference", TINY)
    assert read_bytes(tmp_path / "set") == read_bytes(tmp_path / "reference")


@pytest.mark.slow
def test_a_killed_process_leaves_no_half_made_set(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from smnas_optuna.config import ShapesSettings; from smnas_optuna.data.shapes import make_shapes\n"
        "settings = ShapesSettings(train_images=3, val_images=2, width=64, height=64)\n"
        "kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 4 else None\n"
        "make_shapes(Path(sys.argv[1]), settings, on_progress=kill)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "set")], check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "set").exists()

    make_shapes(tmp_path / "set", TINY)

    make_shapes(tmp_path / "reference", TINY)
    assert list_visible(tmp_path) == ["reference", "set"]
    assert read_bytes(tmp_path / "set") == read_bytes(tmp_path / "reference")


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    make_shapes(tmp_path / "set", TINY)
    before = read_bytes(tmp_path / "set")

    with pytest.raises(DataError) as caught:
        make_shapes(tmp_path / "set", TINY.model_copy(update={"width": 96, "seed": 4}))

    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'set'}: contains a drawn data set with other settings: width is 64, expected 96; "
        "seed is 0, expected 4",
        "  fix: choose another folder, or remove this one if it is not needed",
    ]
    assert read_bytes(tmp_path / "set") == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("holiday.jpg", "x"), ("shapes.json", "{"), ("shapes.json", "[]"), ("shapes.json", '{"seed": 0}')],
    ids=["foreign", "not-json", "not-a-table", "too-little"],
)
def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path, name: str, content: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / name).write_text(content)

    with pytest.raises(
        DataError, match="contains something other than the drawn data set\n  fix: choose another folder"
    ):
        make_shapes(root, TINY)

    assert read_bytes(root) == {name: content.encode()}
    assert list_visible(tmp_path) == ["set"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("x")

    with pytest.raises(DataError, match="set: contains something other"):
        make_shapes(tmp_path / "set", TINY)


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(DataError, match=r"cannot write the drawn data set: .*\n  fix: free space there"):
        make_shapes(tmp_path / "file" / "set", TINY)


MARKERS = {
    "nested": "[" * 200_000,
    "no text": b"\xff\xfe\xff",
    "values that act": json.dumps(dict.fromkeys(("format_version", *TINY.model_dump()), "\x1b[31m\n" * 99)),
    "values without end": json.dumps({key: list(range(10**5)) for key in ("format_version", *TINY.model_dump())}),
}


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_a_hostile_marker_is_refused_in_a_short_line(marker: str | bytes, tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "shapes.json").write_bytes(marker if isinstance(marker, bytes) else marker.encode())

    with (
        time_limit(),
        pytest.raises(DataError, match=r"set: contains (something other|a drawn data set with other)") as error,
    ):
        make_shapes(root, TINY)

    check_message(error.value)


def test_a_pipe_for_a_marker_is_not_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    os.mkfifo(root / "shapes.json")

    with time_limit(1), pytest.raises(DataError, match="contains something other than the drawn data set"):
        make_shapes(root, TINY)


def test_a_name_too_long_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write the drawn data set: File name too long"):
        make_shapes(tmp_path / ("x" * 300), TINY)
