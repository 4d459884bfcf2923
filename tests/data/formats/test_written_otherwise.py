"""YOLO and VOC as other tools write them: names, folders and objects that differ from the usual in a known way."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.errors import DataError
from tests.data.formats.writers import SAMPLES, draw, write_voc, write_yolo_as_roboflow_does, yolo_text

Change = Callable[[Path], object]


def _boxes(dataset: CocoDataset) -> list[list[list[float]]]:
    return [image.boxes.tolist() for image in dataset.images]


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """YOLO's format with three images in training and in validation, all with a label file."""
    write_yolo_as_roboflow_does(tmp_path)
    for split, names in (("train", "abc"), ("valid", "deg")):
        for seed, name in enumerate(names):
            draw(tmp_path / split / "images" / f"{name}.png", seed + 10 * len(split))
            (tmp_path / split / "labels" / f"{name}.txt").write_text(yolo_text(SAMPLES["train"][0]))
    return tmp_path


def _rename(root: Path, kind: str, new: Callable[[str], str]) -> None:
    for path in list(root.glob(f"*/{kind}/*")):
        path.rename(path.with_name(new(path.name)))


YOLO: dict[str, tuple[Change, str]] = {
    "two suffixes": (
        lambda root: _rename(root, "labels", lambda name: f"{name[:-4]}.png.txt"),
        "train/labels/a.png.txt is that of train/images/a.png",
    ),
    "another case": (
        lambda root: _rename(root, "images", str.upper),
        "train/labels/a.txt is that of train/images/A.PNG",
    ),
    "the prefix of an upload": (
        lambda root: _rename(root, "labels", lambda name: f"1a2b3c4d-{name}"),
        "train/labels/1a2b3c4d-a.txt is that of train/images/a.png",
    ),
    "another folder": (
        lambda root: [path.rename(path.with_name("annotations")) for path in list(root.glob("*/labels"))],
        "train/annotations/a.txt is that of train/images/a.png",
    ),
}


@pytest.mark.parametrize(("change", "example"), YOLO.values(), ids=YOLO)
def test_label_files_elsewhere_are_found_if_all_are_sure(change: Change, example: str, yolo: Path) -> None:
    expected, _ = load_datasets(yolo, DataSettings())
    change(yolo)

    datasets, _ = load_datasets(yolo, DataSettings())

    for role in ("train", "val"):
        assert _boxes(datasets[role]) == _boxes(expected[role])
    note = f"label files lie elsewhere or are written otherwise than their images: {example}"
    assert any(each.endswith(note) for each in datasets["train"].notes)


def test_label_files_of_which_one_has_no_image_are_not_guessed(yolo: Path) -> None:
    _rename(yolo, "labels", lambda name: f"1a2b3c4d-{name}")
    (yolo / "train" / "labels" / "other.txt").touch()
    shutil.rmtree(yolo / "valid" / "labels")

    with pytest.raises(DataError, match="none of 7 images has a label file"):
        load_datasets(yolo, DataSettings())


def test_folders_of_a_description_may_have_other_letters(yolo: Path) -> None:
    for split in ("train", "valid"):
        (yolo / split / "images").rename(yolo / split / "Images")

    datasets, _ = load_datasets(yolo, DataSettings())

    assert [image.path.name for image in datasets["train"].images] == ["a.png", "b.png", "c.png"]


def _move_folders(root: Path) -> None:
    shutil.rmtree(root / "ImageSets")
    (root / "Annotations").rename(root / "Ann")
    (root / "JPEGImages").rename(root / "pics")


def _move_images_inside(root: Path) -> None:
    shutil.rmtree(root / "ImageSets")
    (root / "JPEGImages").rename(root / "moved")
    (root / "JPEGImages").mkdir()
    (root / "moved").rename(root / "JPEGImages" / "all")


VOC: dict[str, Change] = {
    "other folders": _move_folders,
    "folders of images inside": _move_images_inside,
    "capital suffixes": lambda root: [
        path.rename(path.with_suffix(path.suffix.upper()))
        for path in [*root.glob("Annotations/*"), *root.glob("JPEGImages/*")]
    ],
    "capital images": lambda root: [
        path.rename(path.with_name(path.name.upper())) for path in list(root.glob("JPEGImages/*"))
    ],
    "lists of images": lambda root: [
        path.write_text("".join(f"JPEGImages/{line}.png\n" for line in path.read_text().split()))
        for path in root.glob("ImageSets/Main/*")
    ],
    "lists of XML files": lambda root: [
        path.write_text("".join(f"{line}.xml\n" for line in path.read_text().split()))
        for path in root.glob("ImageSets/Main/*")
    ],
    "a blank before the declaration": lambda root: [
        path.write_text(f'\n<?xml version="1.0"?>\n{path.read_text()}') for path in root.glob("Annotations/*")
    ],
}


@pytest.mark.parametrize("change", VOC.values(), ids=VOC)
def test_voc_of_other_names_is_read(change: Change, tmp_path: Path) -> None:
    write_voc(tmp_path)
    expected, _ = load_datasets(tmp_path, DataSettings())
    change(tmp_path)

    datasets, _ = load_datasets(tmp_path, DataSettings())

    whole = [image for role in ("train", "val", "test") for image in expected[role].images]
    found = datasets["train"].images if "val" not in datasets else expected["train"].images
    assert [image.boxes.tolist() for image in found] == [image.boxes.tolist() for image in whole[: len(found)]]
    assert len(datasets["train"].images) == (3 if "val" in datasets else 6)


def test_folders_with_other_xml_are_no_annotations(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    for name in (".idea", "config"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.xml").write_text("<project/>")

    assert load_datasets(tmp_path, DataSettings())[1].others == ()


OUTLINES = {
    "numbered corners": "<polygon><x1>4</x1><y1>6</y1><x2>9</x2><y2>6</y2><x3>9</x3><y3>13</y3></polygon>",
    "points": "<polygon><username>me</username>"
    + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((4, 6), (9, 6), (9, 13)))
    + "</polygon>",
    "a turned box": f"<robndbox><cx>6.5</cx><cy>9.5</cy><w>7</w><h>5</h><angle>{math.pi / 2}</angle></robndbox>",
}


def _instead_of_boxes(root: Path, outline: str) -> None:
    for path in root.glob("Annotations/*"):
        before, _, after = path.read_text().partition("<bndbox>")
        if after:
            path.write_text(f"{before}{outline}</object></annotation>")


@pytest.mark.parametrize("outline", OUTLINES.values(), ids=OUTLINES)
def test_a_box_of_voc_is_taken_from_the_outline_if_there_is_none(outline: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    _instead_of_boxes(tmp_path, outline)

    datasets, _ = load_datasets(tmp_path, DataSettings())

    assert _boxes(datasets["train"])[0] == [pytest.approx([3, 5, 9, 13])]
    assert "5 of 5 objects have no bndbox: taken from their outlines" in datasets["train"].notes


@pytest.mark.parametrize("degrees", ["90.0", "270", "-90"])
def test_a_box_of_voc_that_is_turned_gets_the_upright_one_around_it(degrees: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    expected = _boxes(load_datasets(tmp_path, DataSettings())[0]["train"])
    rotation = f"<attributes><attribute><name>rotation</name><value>{degrees}</value></attribute></attributes>"
    _instead_of_boxes(tmp_path, f"<bndbox>{TALL_BOX}</bndbox>{rotation}")

    datasets, _ = load_datasets(tmp_path, DataSettings())

    assert _boxes(datasets["train"]) != expected
    assert _boxes(datasets["train"])[0] == [pytest.approx([2, 6, 10, 12])]
    assert "5 of 5 objects are turned (rotation, as CVAT writes it)" in " ".join(datasets["train"].notes)


def test_a_box_of_voc_that_is_not_turned_stays_as_it_is(tmp_path: Path) -> None:
    write_voc(tmp_path)
    straight = "<attributes><attribute><name>rotation</name><value>0.0</value></attribute></attributes>"
    _instead_of_boxes(tmp_path, f"<bndbox>{TALL_BOX}</bndbox>{straight}")

    datasets, _ = load_datasets(tmp_path, DataSettings())

    assert _boxes(datasets["train"])[0] == [pytest.approx([3, 5, 9, 13])]
    assert "turned" not in " ".join(datasets["train"].notes)


TALL_BOX = "<xmin>4</xmin><ymin>6</ymin><xmax>9</xmax><ymax>13</ymax>"


@pytest.mark.parametrize(
    "outline",
    [
        "<polygon/>",
        "<polygon><x1>4</x1><y1>6</y1><x2>9</x2><y2>6</y2></polygon>",
        "<polygon><x1>4</x1><y1>6</y1><x2>9</x2><y2>6</y2><x3>9</x3></polygon>",
        "<polygon><x1>a</x1><y1>6</y1><x2>9</x2><y2>6</y2><x3>9</x3><y3>9</y3></polygon>",
        "<robndbox><cx>6.5</cx></robndbox>",
        "<robndbox><cx>nan</cx><cy>9.5</cy><w>7</w><h>5</h><angle>0</angle></robndbox>",
    ],
)
def test_what_is_no_outline_gives_no_box(outline: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    _instead_of_boxes(tmp_path, outline)

    with pytest.raises(DataError, match="annotations have neither a box nor an outline"):
        load_datasets(tmp_path, DataSettings())


def _swap_corners(root: Path, names: str) -> None:
    for name in names:
        path = root / "Annotations" / f"{name}.xml"
        path.write_text(re.sub(r"<xmin>(.*?)</xmin>(.*?)<xmax>(.*?)</xmax>", SWAPPED, path.read_text()))


SWAPPED = r"<xmin>\3</xmin>\2<xmax>\1</xmax>"


def test_corners_of_some_objects_may_be_in_another_order(tmp_path: Path) -> None:
    write_voc(tmp_path)
    expected = _boxes(load_datasets(tmp_path, DataSettings())[0]["train"])
    _swap_corners(tmp_path, "be")

    datasets, _ = load_datasets(tmp_path, DataSettings())

    assert _boxes(datasets["train"]) == expected
    assert "2 of 7 objects do not begin at the upper left corner: read as if they did" in datasets["train"].notes


def test_corners_of_most_objects_in_another_order_are_refused(tmp_path: Path) -> None:
    write_voc(tmp_path)
    _swap_corners(tmp_path, "abdef")

    with pytest.raises(DataError, match="have a box without area"):
        load_datasets(tmp_path, DataSettings())
