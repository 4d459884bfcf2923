from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, load_apart, load_splits, train_and_val
from smnas_optuna.errors import DataError

WriteCoco = Callable[..., Path]

ONE_FILE = DataSettings(train="train.json", val_fraction=0.3)
TWO_FILES = DataSettings(train="train.json", val="val.json")
SIZES = [(10, 12)] * 30


def _names(dataset: CocoDataset) -> set[str]:
    return {image.path.name for image in dataset.images}


def test_two_files_are_taken_as_they_are(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:4], seed=0)
    write_coco("val.json", SIZES[:3], seed=1)

    splits = load_splits(tmp_path, TWO_FILES)

    assert _names(splits.train) == {f"0-{number}.png" for number in range(4)}
    assert _names(splits.val) == {f"1-{number}.png" for number in range(3)}


def test_training_and_validation_images_are_one_data_set_with_ids_of_its_own(
    write_coco: WriteCoco, tmp_path: Path
) -> None:
    write_coco("train.json", SIZES[:4], [[(1, 1, 2, 3, 4)]] * 4, seed=0)
    write_coco("val.json", SIZES[:3], [[(2, 1, 2, 3, 4), (1, 3, 2, 3, 4)]] * 3, seed=1)
    splits = load_splits(tmp_path, TWO_FILES)

    both = train_and_val(splits)

    assert [image.path for image in both.images] == [
        image.path for each in (splits.train, splits.val) for image in each.images
    ]
    assert len({image.image_id for image in both.images}) == 7
    assert [row["id"] for row in both.annotations] == list(range(1, 11))
    for image, of in zip(both.images[4:], splits.val.images, strict=True):
        rows = [row["category_id"] for row in both.annotations if row["image_id"] == image.image_id]
        assert rows == [row["category_id"] for row in splits.val.annotations if row["image_id"] == of.image_id]
        assert image.labels.tolist() == of.labels.tolist()


def test_validation_images_may_lie_in_another_folder(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:2], seed=0)
    (tmp_path / "images").rename(tmp_path / "first")
    write_coco("val.json", SIZES[:3], seed=1)
    settings = TWO_FILES.model_copy(update={"images": "first", "val_images": "images"})

    assert len(load_splits(tmp_path, settings).val.images) == 3


def test_one_file_is_split_completely_and_about_as_asked(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES)

    splits = load_splits(tmp_path, ONE_FILE)

    assert _names(splits.train) | _names(splits.val) == {f"0-{number}.png" for number in range(30)}
    assert not _names(splits.train) & _names(splits.val)
    assert 4 <= len(splits.val.images) <= 15
    assert len(splits.train.annotations) == len(splits.train.images)


def test_names_order_and_folder_change_neither_the_split_nor_the_hash(write_coco: WriteCoco, tmp_path: Path) -> None:
    path = write_coco("train.json", SIZES, [[(1, 1, 2, 3, 4), (2, 3, 2, 3, 4)]] * 30)
    before = load_splits(tmp_path, ONE_FILE)
    document = json.loads(path.read_text())
    for table in document.values():
        table.reverse()
    for image in document["images"]:
        (tmp_path / "images" / image["file_name"]).rename(tmp_path / "images" / f"new-{image['file_name']}")
        image |= {"id": image["id"] + 100, "file_name": f"new-{image['file_name']}"}
    for annotation in document["annotations"]:
        annotation |= {"id": annotation["id"] + 9, "image_id": annotation["image_id"] + 100}
    path.write_text(json.dumps(document))
    (tmp_path / "images").rename(tmp_path / "moved")

    after = load_splits(tmp_path, ONE_FILE.model_copy(update={"images": "moved"}))

    assert _names(after.val) == {f"new-{name}" for name in _names(before.val)}
    assert after.content_hash == before.content_hash


def test_more_images_leave_the_others_where_they_are(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:15])
    before = load_splits(tmp_path, ONE_FILE)
    write_coco("train.json", SIZES)
    after = load_splits(tmp_path, ONE_FILE)

    assert _names(before.val) < _names(after.val)
    assert _names(before.train) < _names(after.train)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_no_side_of_a_split_is_empty(fraction: float, write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:2])

    splits = load_splits(tmp_path, ONE_FILE.model_copy(update={"val_fraction": fraction}))

    assert (len(splits.train.images), len(splits.val.images)) == (1, 1)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_test_images_do_not_decide_how_the_others_are_split(
    fraction: float, write_coco: WriteCoco, tmp_path: Path
) -> None:
    write_coco("train.json", SIZES[:3])
    settings = ONE_FILE.model_copy(update={"val_fraction": fraction})
    without = load_splits(tmp_path, settings)
    write_coco("test.json", SIZES[:20], seed=1)

    splits = load_splits(tmp_path, settings.model_copy(update={"test": "test.json"}))

    assert (_names(splits.train), _names(splits.val)) == (_names(without.train), _names(without.val))


@pytest.mark.parametrize("fraction", [0.1, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_both_sides_of_a_split_have_objects(fraction: float, seed: int, write_coco: WriteCoco, tmp_path: Path) -> None:
    boxes = [[(1, 1, 2, 3, 4)]] * 2 + [[]] * 10
    write_coco("train.json", SIZES[: len(boxes)], boxes, seed=seed)

    splits = load_splits(tmp_path, ONE_FILE.model_copy(update={"val_fraction": fraction}))

    assert [sum(len(image.boxes) for image in each.images) for each in (splits.train, splits.val)] == [1, 1]


def test_copies_of_an_image_land_on_the_same_side(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES)
    for number in range(20, 30):
        original = (tmp_path / "images" / f"0-{number - 20}.png").read_bytes()
        (tmp_path / "images" / f"0-{number}.png").write_bytes(original)

    val = _names(load_splits(tmp_path, ONE_FILE).val)

    assert val
    assert {f"0-{number}.png" in val for number in range(10)} == {True, False}
    assert all((f"0-{number}.png" in val) == (f"0-{number + 20}.png" in val) for number in range(10))


def _change_box(document: dict[str, list[dict[str, object]]]) -> None:
    document["annotations"][0]["bbox"] = [2, 3, 8, 8.5]


def _change_crowd(document: dict[str, list[dict[str, object]]]) -> None:
    document["annotations"][0]["iscrowd"] = 1


def _change_label(document: dict[str, list[dict[str, object]]]) -> None:
    document["annotations"][0]["category_id"] = 2


def _change_name(document: dict[str, list[dict[str, object]]]) -> None:
    document["categories"][0]["name"] = "cow"


@pytest.mark.parametrize("change", [_change_box, _change_crowd, _change_label, _change_name])
def test_the_hash_sees_every_change(
    change: Callable[[dict[str, list[dict[str, object]]]], None], write_coco: WriteCoco, tmp_path: Path
) -> None:
    path = write_coco("train.json", SIZES)
    before = load_splits(tmp_path, ONE_FILE)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))

    assert load_splits(tmp_path, ONE_FILE).content_hash != before.content_hash


def test_the_hash_sees_the_pixels(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:3], seed=0)
    before = load_splits(tmp_path, ONE_FILE).content_hash
    write_coco("train.json", SIZES[:3], seed=1)

    assert load_splits(tmp_path, ONE_FILE).content_hash != before


def test_categories_that_differ_are_named(write_coco: WriteCoco, tmp_path: Path) -> None:
    train = write_coco("train.json", SIZES[:2], seed=0, categories=("cat", "dog", "cow"))
    val = write_coco("val.json", SIZES[:2], seed=1, categories=("cat", "hen"))

    with pytest.raises(DataError) as error:
        load_splits(tmp_path, TWO_FILES)

    assert str(error.value).splitlines()[:2] == [
        f"{val}: 2 of 3 categories differ from those of {train}",
        "  first: category 2 is 'dog' in train.json, 'hen' in val.json",
    ]


def test_categories_may_differ_in_the_form_of_accents(write_coco: WriteCoco, tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD")]
    for name, seed, form in (("train.json", 0, forms[0]), ("val.json", 1, forms[1])):
        write_coco(name, SIZES[:2], seed=seed, categories=("cat", form))

    assert load_splits(tmp_path, TWO_FILES).train.category_names == ("cat", forms[0])


def test_shared_images_are_found_by_content(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:5], seed=0)
    val = write_coco("val.json", SIZES[:4], seed=1)
    images = tmp_path / "images"
    for number in (1, 3):
        (images / f"1-{number}.png").write_bytes((images / f"0-{number}.png").read_bytes())

    with pytest.raises(DataError) as error:
        load_splits(tmp_path, TWO_FILES)

    assert str(error.value).splitlines()[:2] == [
        f"{val}: 2 of 4 validation images are training images too, by content",
        f"  first: {images / '1-1.png'} holds the same pixels as {images / '0-1.png'}",
    ]


def test_images_of_one_colour_in_both_parts_may_not_be_whole(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:5], seed=0)
    write_coco("val.json", SIZES[:4], seed=1)
    for name in ("0-1.png", "1-1.png"):
        Image.new("RGB", SIZES[1][::-1]).save(tmp_path / "images" / name)

    with pytest.raises(DataError, match="1 of 4 validation images are training images too, by content") as error:
        load_splits(tmp_path, TWO_FILES)

    assert error.value.fix.startswith("write these files of one colour anew, whole and on one scale with the others")


@pytest.mark.parametrize(("name", "role"), [("train.json", "training"), ("val.json", "validation")])
@pytest.mark.parametrize("crowd", [False, True])
def test_a_split_without_objects_is_refused(
    name: str, role: str, crowd: bool, write_coco: WriteCoco, tmp_path: Path
) -> None:
    write_coco("train.json", SIZES[:2], seed=0)
    write_coco("val.json", SIZES[:2], seed=1)
    boxes = [[(1, 1, 1, 5, 5)] if crowd else []] * 3
    path = write_coco(name, SIZES[:3], boxes, seed=2, crowd=crowd)

    with pytest.raises(DataError) as error:
        load_splits(tmp_path, TWO_FILES)

    first_line = f"{path}: the 3 {role} images have no box that is not a crowd region"
    assert str(error.value).splitlines()[0] == first_line


def test_one_content_cannot_be_split(write_coco: WriteCoco, tmp_path: Path) -> None:
    path = write_coco("train.json", SIZES[:1])

    with pytest.raises(DataError) as error:
        load_splits(tmp_path, ONE_FILE)

    assert str(error.value).startswith(f"{path}: 1 images with 1 different content cannot be split\n  fix: add images")


def test_a_bad_validation_file_is_named(write_coco: WriteCoco, tmp_path: Path) -> None:
    write_coco("train.json", SIZES[:2])

    with pytest.raises(DataError) as error:
        load_splits(tmp_path, TWO_FILES)

    assert str(error.value).startswith(f"{tmp_path / 'val.json'}: there is no such annotation file")


THREE_FILES = TWO_FILES.model_copy(update={"test": "test.json"})


def test_a_test_file_changes_nothing_of_the_others(write_coco: WriteCoco, tmp_path: Path) -> None:
    for seed, name in enumerate(("train.json", "val.json", "test.json")):
        write_coco(name, SIZES[: 4 - seed], seed=seed)

    without, splits = (load_splits(tmp_path, settings) for settings in (TWO_FILES, THREE_FILES))

    assert (without.test, without.test_hash) == (None, None)
    assert splits.test is not None
    assert _names(splits.test) == {"2-0.png", "2-1.png"}
    assert splits.content_hash == without.content_hash
    assert (_names(splits.train), _names(splits.val)) == (_names(without.train), _names(without.val))
    assert splits.test_hash not in (None, splits.content_hash)


def test_test_images_may_lie_in_another_folder_and_beside_one_file_that_is_split(
    write_coco: WriteCoco, tmp_path: Path
) -> None:
    write_coco("test.json", SIZES[:3], seed=1)
    (tmp_path / "images").rename(tmp_path / "held_out")
    write_coco("train.json", SIZES, seed=0)
    settings = ONE_FILE.model_copy(update={"test": "test.json", "test_images": "held_out"})

    splits = load_splits(tmp_path, settings)

    assert splits.test is not None
    assert len(splits.test.images) == 3
    assert len(splits.train.images) + len(splits.val.images) == 30


@pytest.mark.parametrize("change", [_change_box, _change_crowd, _change_label])
def test_the_test_hash_sees_every_change(
    change: Callable[[dict[str, list[dict[str, object]]]], None], write_coco: WriteCoco, tmp_path: Path
) -> None:
    for seed, name in enumerate(("train.json", "val.json", "test.json")):
        path = write_coco(name, SIZES[:4], seed=seed)
    before = load_splits(tmp_path, THREE_FILES).test_hash
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))

    assert load_splits(tmp_path, THREE_FILES).test_hash != before


@pytest.mark.parametrize(("role", "seed"), [("training", 0), ("validation", 1)])
def test_test_images_among_the_others_are_refused(role: str, seed: int, write_coco: WriteCoco, tmp_path: Path) -> None:
    files = [write_coco(name, SIZES[:4], seed=seed) for seed, name in enumerate(("train.json", "val.json"))]
    test = write_coco("test.json", SIZES[:3], seed=2)
    images = tmp_path / "images"
    (images / "2-1.png").write_bytes((images / f"{seed}-3.png").read_bytes())

    with pytest.raises(DataError) as error:
        load_splits(tmp_path, THREE_FILES)

    assert str(error.value).splitlines() == [
        f"{test}: 1 of 3 test images are {role} images too, by content",
        f"  first: {images / '2-1.png'} holds the same pixels as {images / f'{seed}-3.png'}",
        f"  fix: remove them from test.json or from {files[seed].name}",
    ]


def test_a_test_file_is_held_to_what_the_others_are(write_coco: WriteCoco, tmp_path: Path) -> None:
    for seed, name in enumerate(("train.json", "val.json")):
        write_coco(name, SIZES[:2], seed=seed)
    for options, message in (
        ({"categories": ("cat", "hen")}, "1 of 2 categories differ from those of"),
        ({"boxes": [[]] * 2}, "the 2 test images have no box that is not a crowd region"),
    ):
        test = write_coco("test.json", SIZES[:2], seed=2, **options)

        with pytest.raises(DataError) as error:
            load_splits(tmp_path, THREE_FILES)

        assert str(error.value).startswith(f"{test}: {message}")


def test_a_data_set_apart_has_a_hash_of_its_content(write_coco: WriteCoco, tmp_path: Path) -> None:
    path = write_coco("other.json", SIZES[:3], [[(1, 1, 2, 3, 4)]] * 3)
    dataset, before = load_apart(path, tmp_path / "images", grey_bits=16, index_file=tmp_path / "index.json")
    document = json.loads(path.read_text())
    document["images"].reverse()
    path.write_text(json.dumps(document))
    turned = load_apart(path, tmp_path / "images", grey_bits=16, index_file=tmp_path / "index.json")[1]
    document["annotations"][0]["bbox"][2] += 1
    path.write_text(json.dumps(document))
    changed = load_apart(path, tmp_path / "images", grey_bits=16)[1]

    assert (len(dataset.images), turned) == (3, before)
    assert changed != before


def test_a_data_set_apart_without_objects_is_refused(write_coco: WriteCoco, tmp_path: Path) -> None:
    path = write_coco("other.json", SIZES[:3], [[]] * 3)

    with pytest.raises(DataError, match="the 3 given images have no box that is not a crowd region"):
        load_apart(path, tmp_path / "images", grey_bits=16)
