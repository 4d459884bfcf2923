from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.errors import DataError
from tests.data.formats.writers import write_voc, write_voc_beside_the_images
from tests.data.hostile import check_message

VOC = DataSettings(format="voc")
FIRST = "Annotations/a.xml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_voc(tmp_path)
    return tmp_path


def _replace(root: Path, old: str, new: str) -> None:
    text = (root / FIRST).read_text()
    assert old in text
    (root / FIRST).write_text(text.replace(old, new, 1))


def _refused(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_splits(root, VOC)
    check_message(caught.value)
    return caught.value


def test_corners_count_from_1_and_the_last_pixel_belongs_to_the_object(root: Path) -> None:
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>24</xmax><ymax>20</ymax>"
    _replace(root, "<xmin>4</xmin><ymin>5</ymin><xmax>13</xmax><ymax>15</ymax>", box)
    assert load_splits(root, VOC).train.images[0].boxes.tolist()[0] == [0, 0, 24, 20]


def test_differences_of_corners_have_no_rounding_errors(root: Path) -> None:
    box = "<xmin>3.19</xmin><ymin>1.1</ymin><xmax>14.38</xmax><ymax>15.95</ymax>"
    _replace(root, "<xmin>4</xmin><ymin>5</ymin><xmax>13</xmax><ymax>15</ymax>", box)
    assert load_splits(root, VOC).train.annotations[0]["bbox"] == [2.19, 0.1, 12.19, 15.85]


def test_corners_that_count_from_0_are_noted(tmp_path: Path) -> None:
    write_voc_beside_the_images(tmp_path, 0)
    note = "xmin and ymin are 0 as often as 1, or more often: the corners count from 0, and are taken as they are"
    assert note in load_splits(tmp_path, VOC).train.notes


def test_difficult_objects_count_neither_as_missed_nor_as_false(root: Path) -> None:
    _replace(root, "<difficult>0", "<difficult>1")
    dataset = load_splits(root, VOC).train
    assert dataset.images[0].crowd.tolist() == [False, True]
    assert "1 of 7 objects are marked difficult: they count neither as missed nor as false" in dataset.notes


OBJECTS = {
    "no name": ("<name>dog</name>", "", "has no name", "as <name>"),
    "a word": ("<xmin>4<", "<xmin>left<", "has 'left', which is no number, as xmin", "<xmin>, <ymin>, <xmax>"),
    "no corner": ("<ymax>15</ymax>", "", "has no ymax", "<xmin>, <ymin>, <xmax>"),
    "not finite": ("<ymax>15<", "<ymax>nan<", "has 'nan', which is no number, as ymax", "<xmin>, <ymin>, <xmax>"),
    "difficult": ("<difficult>0", "<difficult>2", "has '2' as difficult", "write 0 or 1 as <difficult>"),
}


@pytest.mark.parametrize(("old", "new", "what", "fix"), OBJECTS.values(), ids=OBJECTS)
def test_wrong_objects_are_counted_and_the_first_is_shown(old: str, new: str, what: str, fix: str, root: Path) -> None:
    _replace(root, old, new)
    error = _refused(root)
    assert error.message == f"{root}: 1 of 7 objects of the XML files are not as in VOC's format"
    assert error.first == f"{FIRST}, object 1, {what}"
    assert fix in error.fix


BOXES = {
    "no width": ("<xmin>4</xmin>", "<xmin>14</xmin>", "have a box without area", "bbox [13.0, 4.0, 0.0, 11.0]"),
    "missing": ("bndbox", "box", "have neither a box nor an outline of polygons", "bbox None"),
}


@pytest.mark.parametrize(("old", "new", "what", "first"), BOXES.values(), ids=BOXES)
def test_boxes_that_cannot_be_used_are_named_by_their_object(
    old: str, new: str, what: str, first: str, root: Path
) -> None:
    (root / FIRST).write_text((root / FIRST).read_text().replace(old, new, 2 if old == "bndbox" else 1))
    error = _refused(root)
    assert error.message == f"{root}/ImageSets/Main/train.txt: 1 of 3 annotations {what}"
    assert error.first == f"{FIRST}, object 1, {first} (x, y, width, height in pixels)"


def test_boxes_as_parts_of_the_image_are_refused_with_vocs_fix(tmp_path: Path) -> None:
    write_voc_beside_the_images(tmp_path)
    for file in tmp_path.rglob("*.xml"):
        file.write_text(
            file.read_text()
            .replace("<xmin>", "<xmin>0.")
            .replace("<ymin>", "<ymin>0.")
            .replace("<xmax>", "<xmax>0.")
            .replace("<ymax>", "<ymax>0.")
        )
    error = _refused(tmp_path)
    assert error.message.startswith(f"{tmp_path}: 7 of 7 boxes end within the first pixel of their images: they look")
    assert error.first == "train/a.xml, object 1, corners (0.4, 0.5, 0.13, 0.15)"
    assert error.fix.endswith("write xmin, ymin, xmax and ymax in pixels, of which the first is 1")


FILES = {
    "empty": ("", "this is not XML: no element found"),
    "cut": ("<annotation><object>", "this is not XML: no element found"),
    "HTML": ("<html></html>", "this is not VOC: it holds a 'html'"),
    "DOCTYPE": (
        '<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><annotation>&d;</annotation>',
        "has a DOCTYPE, which VOC does not have",
    ),
    "another encoding": ('<?xml version="1.0" encoding="utf-8"?><annotation>\udce4</annotation>', "cannot be read"),
}


@pytest.mark.parametrize(("text", "what"), FILES.values(), ids=FILES)
def test_a_wrong_file_is_explained(text: str, what: str, root: Path) -> None:
    (root / FIRST).write_bytes(text.encode("utf-8", "surrogateescape"))
    error = _refused(root)
    assert error.message.startswith(f"{root}/{FIRST}: ")
    assert what in error.message


def test_a_list_that_names_a_file_that_is_not_there_is_an_error(root: Path) -> None:
    (root / FIRST).unlink()
    error = _refused(root)
    assert error.message == (f"{root}/ImageSets/Main/train.txt: 1 of 3 images have no XML file in {root}/Annotations")
    assert error.first == "'a'"


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", "a\0b", "x" * 999])
def test_no_name_in_a_list_leads_out_of_the_folder(name: str, root: Path) -> None:
    (root / "ImageSets/Main/train.txt").write_text(f"{name}\n")
    assert "1 of 1 images have no XML file" in _refused(root).message


def test_an_image_that_is_not_there_is_an_error(root: Path) -> None:
    (root / "JPEGImages/a.png").unlink()
    error = _refused(root)
    assert error.message == f"{root}/Annotations: 1 of 3 XML files have no image"
    assert error.first == f"{root}/{FIRST}, filename 'a.png'"
    assert error.fix.startswith(f"put the images into {root}/JPEGImages or ")


def test_an_image_that_is_named_otherwise_is_found_by_the_name_of_its_xml_file(root: Path) -> None:
    _replace(root, "<filename>a.png<", "<filename>C:\\photos\\first.jpg<")
    assert load_splits(root, VOC).train.images[0].path.name == "a.png"


def test_the_image_of_its_own_name_is_that_of_an_xml_file_and_another_filename_is_noted(root: Path) -> None:
    before = load_splits(root, VOC).train
    other = before.images[1].path.name
    _replace(root, "<filename>a.png<", f"<filename>{other}<")

    after = load_splits(root, VOC).train

    assert [image.path for image in after.images] == [image.path for image in before.images]
    note = f"XML files (first {FIRST}, filename '{other}') name another image: that of their own name is taken"
    assert [each for each in after.notes if note in each]


def test_files_in_no_list_are_noted(root: Path) -> None:
    shutil.copy(root / FIRST, root / "Annotations/z.xml")
    assert "1 XML files (first z.xml) are in no list: not used" in load_splits(root, VOC).train.notes


def test_images_without_an_xml_file_are_noted(tmp_path: Path) -> None:
    write_voc_beside_the_images(tmp_path)
    shutil.copy(tmp_path / "valid/d.png", tmp_path / "train/d-1.png")
    note = "1 images (first train/d-1.png) have no XML file, or are in no list: not used"
    assert note in load_splits(tmp_path, VOC).train.notes


def test_trainval_is_split_if_there_is_no_train(root: Path) -> None:
    sets = root / "ImageSets/Main"
    (sets / "trainval.txt").write_text("a 1\nb -1\nd 1\ne 1\n")
    (sets / "train.txt").unlink()
    splits = load_splits(root, VOC)
    names = {image.path.stem for image in (*splits.train.images, *splits.val.images)}
    assert names == {"a", "b", "d", "e"}
    assert splits.test is not None


def test_a_list_of_classes_gives_their_order(root: Path) -> None:
    (root / "classes.txt").write_text("owl\ndog\n\ncat\nfox\n")
    dataset = load_splits(root, VOC).train
    assert dataset.category_names == ("owl", "dog", "cat", "fox")
    assert dataset.images[0].labels.tolist() == [2, 3]
    (root / "classes.txt").write_text("owl\ndog\n")
    error = _refused(root)
    assert error.message == f"{root}/classes.txt: 1 of 3 classes of the XML files are not in it"
    assert error.first == "'cat'"


def test_files_without_objects_are_an_error(root: Path) -> None:
    for file in (root / "Annotations").iterdir():
        file.write_text(f"<annotation><filename>{file.stem}.png</filename></annotation>")
    assert _refused(root).message == f"{root}: the XML files have no objects"


def test_a_stated_size_that_is_not_the_images_is_an_error(root: Path) -> None:
    _replace(root, "<width>24", "<width>25")
    assert "the image is 24x20 pixels (width x height), its annotation says 25x20" in _refused(root).message


def test_a_size_of_0_is_read_from_the_image(root: Path) -> None:
    _replace(root, "<width>24", "<width>0")
    note = "1 of 3 XML files state no size of their image (first JPEGImages/a.png): read there"
    assert note in load_splits(root, VOC).train.notes


def test_a_folder_without_xml_files_is_an_error(tmp_path: Path) -> None:
    assert _refused(tmp_path).message == f"{tmp_path}: there are no XML files in Annotations/ or train/"


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "GBK", "cp1252"])
def test_an_encoding_that_the_file_declares_is_read(encoding: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    file = tmp_path / "Annotations" / "a.xml"
    name = "猫" if encoding == "GBK" else "kätze"
    text = file.read_text().replace("cat", name)
    file.write_bytes(f"<?xml version='1.0' encoding='{encoding}'?>\n{text}".encode(encoding))
    assert name in load_datasets(tmp_path, DataSettings())[0]["train"].category_names


@pytest.mark.parametrize("declaration", ["", "<?xml version='1.0' encoding='punycode'?>", "<?xml version='1.0'?>"])
def test_another_encoding_is_refused(declaration: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    file = tmp_path / "Annotations" / "a.xml"
    file.write_bytes((declaration + file.read_text().replace("cat", "kätze")).encode("latin-1"))
    with pytest.raises(DataError, match="it is no text in UTF-8"):
        load_datasets(tmp_path, DataSettings())


def test_names_in_another_form_of_accents_are_the_same(tmp_path: Path) -> None:
    write_voc(tmp_path)
    forms = [unicodedata.normalize(form, "kätze") for form in ("NFC", "NFD")]
    for number, file in enumerate(sorted((tmp_path / "Annotations").iterdir())):
        file.write_text(file.read_text().replace("cat", forms[number % 2]))
    (tmp_path / "JPEGImages" / "a.png").rename(tmp_path / "JPEGImages" / f"{forms[1]}.png")
    (tmp_path / "Annotations" / "a.xml").rename(tmp_path / "Annotations" / f"{forms[0]}.xml")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(f"{forms[0]}\nb\nc\n")
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert loaded["train"].category_names == ("dog", forms[0], "owl")
    assert len(loaded["train"].images) == 3
