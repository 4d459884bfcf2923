from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.data.formats.yolo import label_files
from smnas_optuna.data.formats.yolo_keypoints import keypoint_columns
from smnas_optuna.data.formats.yolo_labels import read_labels
from smnas_optuna.data.tree_identity import tree_identity
from smnas_optuna.errors import DataError
from tests.data.formats.writers import draw, write_yolo, write_yolo_as_roboflow_does, write_yolo_as_ultralytics_does
from tests.data.hostile import check_message

YOLO = DataSettings(format="yolo")
FIRST = "train/labels/a.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_yolo_as_roboflow_does(tmp_path)
    return tmp_path


def _refused(root: Path, settings: DataSettings = YOLO) -> DataError:
    with pytest.raises(DataError) as caught:
        load_splits(root, settings)
    check_message(caught.value)
    return caught.value


LINES = {
    "a class that has no name": ("3 .5 .5 .2 .2", "is of class '3', and the classes are 0..2", "from 0; name every"),
    "a negative class": ("-1 .5 .5 .2 .2", "is of class '-1', and the classes are 0..2", "from 0; name every"),
    "half a class": ("0.5 .5 .5 .2 .2", "is of class '0.5', and the classes are 0..2", "from 0; name every"),
    "pixels": ("0 12 10 4 5", "has '12', which is outside 0..1", "parts of the width and height of the image"),
    "a negative number": ("0 .5 .5 -.2 .2", "has '-.2', which is outside 0..1", "from 0 to 1"),
    "a word": ("0 .5 .5 .2 wide", "has 'wide', which is no number", "write numbers"),
    "nan": ("0 .5 nan .2 .2", "has 'nan', which is no number", "write numbers"),
    "infinity": ("0 .5 1e999 .2 .2", "has '1e999', which is no number", "write numbers"),
    "underscores": ("0 .5 .5 .2 0_1", "has '0_1', which is no number", "write numbers"),
    "commas": ("0,.5,.5,.2,.2", "has 1 columns, not 5", "class, centre x, centre y, width, height"),
    "four columns": ("0 .5 .5 .2", "has 4 columns, not 5", "class, centre x, centre y, width, height"),
    "a confidence": ("0 .5 .5 .2 .2 .9", "has 6 columns, not 5", "leave out the sixth column"),
    "half a corner": ("0 .5 .5 .2 .2 .9 .9 .8", "has 8 columns, not 5", "of its outline"),
}


@pytest.mark.parametrize(("line", "what", "fix"), LINES.values(), ids=LINES)
def test_wrong_lines_are_counted_and_the_first_is_shown(line: str, what: str, fix: str, root: Path) -> None:
    (root / FIRST).write_text(f"0 .5 .5 .2 .2\n\n{line}\n")
    error = _refused(root)
    assert error.message == f"{root}/data.yaml: 1 of 7 lines of the label files are not as in YOLO's format"
    assert error.first == f"{FIRST}, line 3, {what}"
    assert fix in error.fix


def test_a_box_without_area_is_named_by_its_line_and_can_be_dropped(root: Path) -> None:
    (root / FIRST).write_text("0 .5 .5 .5 .5\n0 .5 .5 0 .2\n")
    error = _refused(root)
    assert error.message == f"{root}/data.yaml: 1 of 3 annotations have a box without area"
    assert error.first is not None
    assert error.first.startswith(f"{FIRST}, line 2, bbox [12.0, 8.0, 0.0, 4.0] ")
    dataset = load_splits(root, YOLO.model_copy(update={"drop_empty_boxes": True})).train
    assert len(dataset.images[0].boxes) == 1
    assert "1 annotations with a box without area: left out" in dataset.notes


def test_repeated_lines_are_left_out_with_a_note_that_names_them(root: Path) -> None:
    (root / FIRST).write_text("0 .5 .5 .5 .5\n" * 2)
    note = "1 of 3 annotations repeat image, category and box of another: left out (first {0}, line 2, as {0}, line 1)"
    assert note.format(FIRST) in load_splits(root, YOLO).train.notes


def test_a_little_over_the_border_is_clipped(root: Path) -> None:
    (root / FIRST).write_text("0 .5 .5 1.005 1\n")
    dataset = load_splits(root, YOLO).train
    assert dataset.images[0].boxes.tolist() == [[0, 0, 24, 20]]
    assert "1 boxes reach over the border of their image: clipped" in dataset.notes


def test_an_image_without_a_label_file_has_no_objects_and_is_noted(root: Path) -> None:
    dataset = load_splits(root, YOLO).train
    assert [len(image.boxes) for image in dataset.images] == [2, 1, 0]
    note = "1 of 3 images (first train/images/c.png) have no label file: images without objects"
    assert dataset.notes == ("read as YOLO, as format in [data] of study.toml says", note)


def test_no_label_file_at_all_is_an_error(root: Path) -> None:
    for file in root.rglob("labels/*.txt"):
        file.unlink()
    error = _refused(root)
    assert error.message == f"{root}/data.yaml: none of 6 images has a label file"
    assert error.first == f"{root}/train/images/a.png, where {root}/train/labels/a.txt would be"
    assert "put the label files into labels/" in error.fix


def test_label_files_of_no_image_are_noted(root: Path) -> None:
    (root / "valid/labels/classes.txt").write_text("cat\n")
    assert not any("belong to no image" in note for note in load_splits(root, YOLO).train.notes)
    (root / "valid/labels/d-1.txt").write_text("0 .5 .5 .5 .5\n")
    note = "1 of 7 label files (first valid/labels/d-1.txt) belong to no image: not used"
    assert note in load_splits(root, YOLO).train.notes


def test_key_points_after_a_box_are_not_looked_at(root: Path) -> None:
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + "kpt_shape: [2, 3]\n")
    for file in root.rglob("labels/*.txt"):
        file.write_text("".join(f"{line} .1 .1 2 .2 .2 1\n" for line in file.read_text().splitlines()))
    assert load_splits(root, YOLO).train.images[0].boxes.tolist() == [[3, 4, 13, 15], [0, 0, 5, 6]]


@pytest.mark.parametrize("points", [".1 .1 2 .2 .2 1", "0 0 0", "0 0 0 .1 .1 1 0 0 0"])
def test_visibilities_tell_of_key_points(points: str, root: Path) -> None:
    expected = load_splits(root, YOLO).content_hash
    for file in root.rglob("labels/*.txt"):
        file.write_text("".join(f"{line} {points}\n" for line in file.read_text().splitlines()))
    splits = load_splits(root, YOLO)
    assert splits.content_hash == expected
    note = f"{len(points.split())} numbers after each box are taken for key points, and not used"
    assert note in splits.train.notes


def _boxes_and(root: Path, points: Callable[[np.random.Generator, float, float, float, float], list[float]]) -> Path:
    """Write a label file whose lines are what ``points`` returns for small boxes anywhere in the image."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(30):
        width, height = random.uniform(0.1, 0.3, 2)
        x, y = random.uniform(width / 2, 1 - width / 2), random.uniform(height / 2, 1 - height / 2)
        lines.append(" ".join(f"{number:.5f}" for number in points(random, x, y, width, height)))
    (root / FIRST).write_text("".join(f"0 {line}\n" for line in lines))
    return root / FIRST


@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_key_points_without_visibilities_are_told_from_outlines(count: int, root: Path) -> None:
    def pose(random: np.random.Generator, x: float, y: float, width: float, height: float) -> list[float]:
        inside = random.uniform(-0.5, 0.5, (count, 2)) * (width, height) + (x, y)
        inside[random.random(count) < 0.1] = 0  # not seen
        return [x, y, width, height, *inside.ravel()]

    def outline(random: np.random.Generator, x: float, y: float, width: float, height: float) -> list[float]:
        angles = np.linspace(0, 2 * np.pi, count + 2, endpoint=False) + random.uniform(0, 6)
        return [*np.stack([x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles)], axis=1).ravel()]

    assert keypoint_columns([_boxes_and(root, pose)]) == 2 * count
    assert keypoint_columns([_boxes_and(root, outline)]) == 0


def test_an_outline_whose_numbers_might_be_visibilities_is_none(root: Path) -> None:
    (root / FIRST).write_text("0 .5 0 .5 .3 .2 .5 0 .5 0 0\n")

    assert keypoint_columns([root / FIRST]) == 0


def test_outlines_of_small_objects_in_the_middle_are_no_key_points(root: Path) -> None:
    def outline(random: np.random.Generator, x: float, y: float, width: float, height: float) -> list[float]:
        x, y, width, height = 0.3 + x / 5, 0.3 + y / 5, width / 5, height / 5
        return [x, y, x + width, y, x + width, y + height, x, y + height]

    assert keypoint_columns([_boxes_and(root, outline)]) == 0


def test_without_validation_images_a_part_is_set_aside(root: Path) -> None:
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("val: ../valid/images\n", ""))
    (root / "train/labels/c.txt").write_text("0 .5 .5 .5 .5\n")
    splits = load_splits(root, YOLO)
    assert (len(splits.train.images) + len(splits.val.images), len(splits.val.images)) == (3, 1)
    (root / "data.yaml").write_text(text.replace("../valid/", "../train/"))
    same = load_splits(root, YOLO)
    assert same.content_hash == splits.content_hash
    note = "data.yaml names the training images for validation: a part of them is set aside instead"
    assert note in same.train.notes


def test_a_split_that_is_named_and_not_there_is_left_out(root: Path) -> None:
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("../test/images", "../elsewhere/images"))
    splits = load_splits(root, YOLO)
    assert splits.test is None
    assert "data.yaml names '../elsewhere/images' for test, and there are no images: left out" in splits.train.notes
    (root / "data.yaml").write_text(text.replace("../train/images", "../elsewhere/images"))
    error = _refused(root)
    where = f"'train' is '../elsewhere/images', and there are no images of that name in {root}"
    assert error.message == f"{root}/data.yaml: {where}"


YAMLS = {
    "no names": ("train: train/images\n", "names no class", "names: [cat, dog]"),
    "a name that is a list": ("names: [cat, [dog]]\n", "'names' has ['dog'] for class '1'", "names: [cat, dog]"),
    "an empty name": ("names: [cat, '']\n", "'names' has '' for class '1'", "names: [cat, dog]"),
    "a class that is no number": ("names: {cat: 0}\n", "'names' has '0' for class 'cat'", "names: [cat, dog]"),
    "names that are a text": ("names: cat\n", "'names' is 'cat'", "names: [cat, dog]"),
    "another number": ("nc: 4\nnames: [cat, dog]\n", "nc says that there are 4 classes, and names has 2", "names:"),
    "a train that is a mapping": ("names: [cat]\ntrain: {a: b}\n", "'train' is {'a': 'b'}", "train: train/images"),
    "a list": ("- cat\n", "this is not the description of a YOLO data set: ['cat']", "train, val and names"),
    "broken": ("names: [cat\n", "this is not YAML: ", "write a YAML file"),
    "nested": ("- " * 5000, "this is not YAML: ", "write a YAML file"),
    "odd key points": ("names: [cat]\nkpt_shape: many\n", "'kpt_shape' is 'many'", "number of key points"),
}


@pytest.mark.parametrize(("text", "what", "fix"), YAMLS.values(), ids=YAMLS)
def test_a_wrong_description_is_explained(text: str, what: str, fix: str, root: Path) -> None:
    (root / "data.yaml").write_text(text)
    error = _refused(root)
    assert error.message.startswith(f"{root}/data.yaml: {what}")
    assert fix in error.fix


def test_names_that_yaml_takes_for_something_else_stay_names(root: Path) -> None:
    (root / "data.yaml").write_text("names: {0: no, 1: 1.0, 5: 2001-01-01}\n")
    (root / "train/labels/b.txt").write_text("5 .5 .5 .5 .5\n")
    (root / "test/labels/f.txt").write_text("5 .5 .5 .5 .5\n")
    dataset = load_splits(root, YOLO).train
    assert dataset.category_names == ("no", "1.0", "2001-01-01")
    assert dataset.category_ids == (1, 2, 3)
    assert dataset.images[1].labels.tolist() == [3]


@pytest.mark.parametrize("entry", ["/etc", "../../etc", "..", "/", "C:\\data\\images"])
def test_no_path_leads_out_of_the_data_folder(entry: str, root: Path) -> None:
    (root / "data.yaml").write_text(f"train: '{entry}'\nnames: [cat, dog, owl]\nval: valid/images\n")
    try:
        dataset = load_splits(root, YOLO).train
    except DataError as error:
        check_message(error)
    else:
        assert all(image.path.is_relative_to(root) for image in dataset.images)


def test_a_list_that_names_an_image_that_is_not_there_is_an_error(root: Path) -> None:
    (root / "data.yaml").write_text("train: train.txt\nnames: [cat, dog, owl]\n")
    (root / "train.txt").write_text("./train/images/a.png\n./train/images/z.png\n")
    error = _refused(root)
    assert error.message == f"{root}/train.txt: 1 of 2 images are not in {root}"
    assert error.first == "'./train/images/z.png'"


def test_a_folder_without_names_of_classes_says_what_is_missing(tmp_path: Path) -> None:
    write_yolo(tmp_path, "images/{split}")
    error = _refused(tmp_path, DataSettings())
    assert error.message == f"{tmp_path}: there is no data.yaml, classes.txt or obj.names"
    assert "add data.yaml with the names of the classes" in error.fix


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("train/images/a.b.png", "train/labels/a.b.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("data/a.jpg", "data/a.txt"),
    ],
)
def test_label_files_lie_where_trainers_of_yolo_look(image: str, labels: str) -> None:
    root = Path("/data/images")  # a folder above the data tells nothing
    assert label_files(root / image, root)[0] == root / labels


def test_images_are_as_turned_by_exif(root: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "train/images/a.png") as image:
        image.convert("RGB").save(root / "train/images/a.jpg", exif=exif)
    (root / "train/images/a.png").unlink()
    loaded, recognised = load_datasets(root, YOLO)
    first = loaded["train"].images[0]
    assert (first.height, first.width, recognised.format) == (24, 20, "yolo")


def test_images_that_cannot_be_read_are_counted(root: Path) -> None:
    for name in ("a", "b"):
        (root / f"train/images/{name}.png").write_bytes(b"no image")
    error = _refused(root)
    assert error.message == "2 of 3 images cannot be used"
    assert error.first is not None
    assert error.first.startswith(f"{root}/train/images/a.png: the image cannot be read: cannot identify it")


def test_a_description_that_names_no_images_leaves_them_to_the_folders(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    (tmp_path / "data.yaml").write_text("train: ~\nval:\nnames: ['cat', 'dog', 'owl']\n")
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert list(loaded) == ["train", "val", "test"]


def test_folders_may_be_links_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "disk"
    write_yolo_as_ultralytics_does(root)
    expected = load_splits(root, YOLO)
    elsewhere.mkdir()
    for part in ("images", "labels"):
        (root / part).rename(elsewhere / part)
        (root / part).mkdir()
        for split in (elsewhere / part).iterdir():
            (root / part / split.name).symlink_to(split)
    (elsewhere / "images/train/again").symlink_to(elsewhere / "images/train")
    (elsewhere / "images/train/.thumbnails").mkdir()
    draw(elsewhere / "images/train/.thumbnails/z.png", 99)
    (root / ".backup").mkdir()
    draw(root / ".backup/z.png", 99)

    splits = load_splits(root, YOLO)

    assert (splits.content_hash, splits.train.notes) == (expected.content_hash, expected.train.notes)
    assert [image.path for image in splits.train.images] == [image.path for image in expected.train.images]


def test_a_link_beside_its_folder_is_that_folder(tmp_path: Path) -> None:
    write_yolo_as_ultralytics_does(tmp_path)
    expected = load_splits(tmp_path, YOLO)
    (tmp_path / "images/train/run_08").mkdir()
    (tmp_path / "images/train/latest").symlink_to(tmp_path / "images/train/run_08")
    (tmp_path / "labels/train/run_08").mkdir()
    for folder in ("images", "labels"):
        for file in (tmp_path / folder / "train").glob("*.*"):
            file.rename(file.parent / "run_08" / file.name)

    splits = load_splits(tmp_path, YOLO)

    assert splits.content_hash == expected.content_hash
    assert {image.path.parent.name for image in splits.train.images} == {"run_08"}


def test_what_a_study_in_the_data_folder_writes_is_no_data(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    expected = load_splits(tmp_path, YOLO)
    identity = tree_identity(tmp_path)
    for folder in (tmp_path / "train/images/mine", tmp_path / "mine"):
        (folder / "report").mkdir(parents=True)
        (folder / "study.toml").touch()
        draw(folder / "report/front.png", 99)

    splits = load_splits(tmp_path, YOLO)

    assert (splits.content_hash, splits.train.notes) == (expected.content_hash, expected.train.notes)
    assert tree_identity(tmp_path) == identity


def test_a_label_file_that_is_a_link_to_nothing_is_refused(root: Path) -> None:
    (root / FIRST).unlink()
    (root / FIRST).symlink_to(root / "unmounted" / "a.txt")
    assert "a.txt: the file cannot be read: No such file or directory" in _refused(root).message


@pytest.mark.parametrize("change", [lambda name: unicodedata.normalize("NFD", name), lambda name: f"{name[:-3]}TXT"])
def test_a_label_file_may_be_named_with_another_form_of_accents(change: Callable[[str], str], tmp_path: Path) -> None:
    for name in ("käse", "kase"):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.png")
    (tmp_path / "kase.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / change("käse.txt")).write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    loaded, _ = load_datasets(tmp_path, DataSettings())
    labels = {image.path.name: image.labels.tolist() for image in loaded["train"].images}
    assert labels == {"käse.png": [2], "kase.png": [1]}
    assert not any("label file" in note for note in loaded["train"].notes)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_any_way(end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.5 0.5{end}{end}1 0.5 0.5 0.25 0.25{end}", newline="")
    assert [(label.line, label.class_number) for label in read_labels(path, (0, 1))] == [(1, 0), (3, 1)]  # type: ignore[union-attr]
