from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, Splits, load_splits, start
from smnas_optuna.data.checked_file import Identity, identity_of
from smnas_optuna.data.tree_identity import tree_identity
from smnas_optuna.errors import DataError

from .formats.writers import WRITERS

WriteCoco = Callable[..., Path]

SETTINGS = DataSettings(train="train.json", val="val.json", test="test.json")
SIZES = [(10, 12), (14, 9), (10, 12)]


@pytest.fixture
def root(write_coco: WriteCoco, tmp_path: Path) -> Path:
    """A data folder with three splits: images with two boxes, one and none, among them boxes that must be clipped."""
    boxes = [[(1, 2, 3, 8, 9), (2, 0, 0, 4.5, 20)], [(2, 1, 1, 3, 3)], []]
    for seed, name in enumerate(("train.json", "val.json", "test.json")):
        write_coco(name, SIZES, boxes, seed=seed)
    return tmp_path


def _start(root: Path, settings: DataSettings = SETTINGS) -> tuple[Splits, int]:
    """The data, and the number of images that were decoded."""
    decoded = [0]

    def count(done: int, _: int) -> None:
        decoded[0] = done

    return load_splits(root, settings, cache=root / "cache", on_progress=count), decoded[0]


def _assert_same(one: CocoDataset | None, other: CocoDataset | None) -> None:
    if one is None or other is None:
        assert one is other
        return
    for each in fields(CocoDataset):
        if each.name not in ("images", "annotations"):
            assert getattr(one, each.name) == getattr(other, each.name)
    assert list(one.annotations) == list(other.annotations)
    assert len(one.images) == len(other.images)
    for image, same in zip(one.images, other.images, strict=True):
        for field in fields(image):
            value, again = getattr(image, field.name), getattr(same, field.name)
            assert type(value) is type(again)
            np.testing.assert_array_equal(value, again)
            if isinstance(value, np.ndarray):
                assert (value.dtype, value.shape) == (again.dtype, again.shape)


def _assert_all_same(one: Splits, other: Splits) -> None:
    for role in ("train", "val", "test"):
        _assert_same(getattr(one, role), getattr(other, role))
    assert (one.content_hash, one.test_hash, one.grey_bits) == (other.content_hash, other.test_hash, other.grey_bits)


def _write_over(path: Path, content: bytes) -> None:
    """Write other content of the same length into the same file, and give it back its time."""
    stat = path.stat()
    assert len(content) == stat.st_size
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = path.stat()
    assert (again.st_size, again.st_mtime_ns, again.st_ino) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _read_nothing(*_: object, **__: object) -> Splits:
    raise AssertionError("the data is read")


@pytest.mark.parametrize("settings", [SETTINGS, DataSettings(train="train.json", val_fraction=0.4)])
def test_a_later_start_reads_no_annotations_and_no_image_and_gives_the_same(
    settings: DataSettings, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = load_splits(root, settings)
    first, decoded = _start(root, settings)
    monkeypatch.setattr(start, "read_splits", _read_nothing)
    second, decoded_again = _start(root, settings)

    assert decoded == (9 if settings is SETTINGS else 3)
    assert decoded_again == 0
    _assert_all_same(first, checked)
    _assert_all_same(second, checked)


def test_a_changed_annotation_file_is_read_again_and_no_image_is_decoded(root: Path) -> None:
    first, _ = _start(root)
    text = (root / "train.json").read_text()
    (root / "train.json").write_text(text.replace("[2, 3, 8, 9]", "[2, 3, 7, 9]"))
    second, decoded = _start(root)

    assert second.content_hash != first.content_hash
    assert decoded == 0


def test_a_changed_image_is_decoded_again(root: Path) -> None:
    first, _ = _start(root)
    Image.new("RGB", (12, 10), "red").save(root / "images" / "0-0.png")
    second, decoded = _start(root)

    assert second.content_hash != first.content_hash
    assert decoded == 1


def test_other_annotations_of_the_same_size_time_and_number_are_read_again(root: Path) -> None:
    first, _ = _start(root)
    text = (root / "train.json").read_bytes()
    _write_over(root / "train.json", text.replace(b"[2, 3, 8, 9]", b"[2, 3, 7, 9]"))
    second, decoded = _start(root)

    assert second.content_hash != first.content_hash
    assert decoded == 0


def test_another_image_of_the_same_size_time_and_number_is_decoded_again(root: Path) -> None:
    image = root / "images" / "0-0.bmp"
    (root / "images" / "0-0.png").unlink()
    (root / "train.json").write_text((root / "train.json").read_text().replace("0-0.png", "0-0.bmp"))
    pixels = np.full((10, 12, 3), 7, np.uint8)
    Image.fromarray(pixels).save(image)
    first, _ = _start(root)
    pixels[3, 4] = 8
    other = io.BytesIO()
    Image.fromarray(pixels).save(other, "BMP")
    _write_over(image, other.getvalue())
    second, decoded = _start(root)

    assert second.content_hash != first.content_hash
    assert decoded == 1


def test_a_study_that_has_begun_finds_the_data_that_it_began_with(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = _start(root)
    monkeypatch.setattr(start, "read_splits", _read_nothing)

    _assert_all_same(load_splits(root, SETTINGS, cache=root / "cache", known_hash=first.content_hash), first)
    with pytest.raises(AssertionError, match="the data is read"):  # of another study, which may be split otherwise
        load_splits(root, SETTINGS, cache=root / "cache", known_hash="0" * 32)


def test_a_file_that_a_name_means_by_now_is_found(root: Path) -> None:
    before, _ = _start(root)
    first = before.train.images[0].path
    small = first.with_name(first.name.upper())
    first.rename(small)  # found by its name but for capitals, with a note
    renamed, _ = _start(root)
    shutil.copy(small, first)
    os.utime(first, ns=(1, 1))

    again, decoded = _start(root)

    assert renamed.train.images[0].path == small
    assert (again.train.images[0].path, decoded > 0) == (first, True)


def test_a_missing_image_is_an_error_as_ever(root: Path) -> None:
    _start(root)
    (root / "images" / "2-1.png").unlink()

    with pytest.raises(DataError, match="1 of 3 images are missing"):
        _start(root)


def test_other_settings_are_other_data(root: Path) -> None:
    splits = [_start(root, each)[0] for each in (SETTINGS, SETTINGS.model_copy(update={"test": None}), SETTINGS)]

    assert [each.test is None for each in splits] == [False, True, False]


def test_an_image_that_changes_while_the_data_is_read_is_not_kept(root: Path) -> None:
    def change(done: int, total: int) -> None:
        if done == total:
            Image.new("RGB", (12, 10), "red").save(root / "images" / "0-0.png")

    begun = load_splits(root, SETTINGS, cache=root / "cache", on_progress=change)
    then, decoded = _start(root)

    assert decoded == 1
    assert then.content_hash != begun.content_hash


def _in_place_of(file: Path, make: Callable[[Path], None]) -> None:
    file.unlink()
    make(file)


def _hashed_archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, other=np.zeros(1))
    return blake2b(stream.getvalue(), digest_size=16).digest() + stream.getvalue()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "text": lambda file: file.write_text("data"),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "another archive": lambda file: file.write_bytes(_hashed_archive()),
    "a folder": lambda file: _in_place_of(file, Path.mkdir),
    "a pipe": lambda file: _in_place_of(file, os.mkfifo),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_made_anew(damage: Callable[[Path], object], root: Path) -> None:
    checked, _ = _start(root)
    (file,) = (root / "cache").glob("data-*.arrays")
    damage(file)

    _assert_all_same(_start(root)[0], checked)
    assert list((root / "cache").glob("*.tmp")) == []


def test_one_changed_byte_is_noticed(root: Path) -> None:
    checked, _ = _start(root)
    (file,) = (root / "cache").glob("data-*.arrays")
    content = bytearray(file.read_bytes())
    for place in range(0, len(content), len(content) // 50):
        content[place] ^= 1
        file.write_bytes(content)
        _assert_all_same(_start(root)[0], checked)
        content = bytearray(file.read_bytes())


def test_of_two_processes_one_works_and_the_other_one_waits(root: Path) -> None:
    lock = FileLock(root / "cache" / "data.lock")
    (root / "cache").mkdir()
    waited = list[tuple[int, int]]()
    found = list[Splits]()

    def wait() -> None:
        found.append(load_splits(root, SETTINGS, cache=root / "cache", on_progress=lambda *how: waited.append(how)))

    with lock:
        other = threading.Thread(target=wait)
        other.start()
        deadline = time.monotonic() + 30
        while not waited and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not found
    other.join()

    assert waited[0] == (0, 1)
    assert found


def test_waiting_for_another_process_can_be_stopped(root: Path) -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    (root / "cache").mkdir()
    with FileLock(root / "cache" / "data.lock"), pytest.raises(KeyboardInterrupt):
        load_splits(root, SETTINGS, cache=root / "cache", on_progress=stop)


def test_an_image_that_was_gone_for_a_moment_leaves_the_data_unkept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> Identity:
        if path.name == "0-1.png":
            raise FileNotFoundError
        return identity_of(path)

    monkeypatch.setattr(start, "identity_of", gone)
    first, _ = _start(root)

    assert not list((root / "cache").glob("*.arrays"))
    monkeypatch.undo()
    _assert_all_same(_start(root)[0], first)


def test_an_error_is_an_error_again(root: Path) -> None:
    (root / "train.json").write_text("{}")

    for _ in range(2):
        with pytest.raises(DataError, match="there is no 'categories'"):
            _start(root)


@pytest.fixture(params=["yolo of roboflow", "yolo of darknet", "voc", "voc beside the images"])
def files_each(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder in a format that has a file of annotations for each image."""
    root = tmp_path / "data"
    root.mkdir()
    WRITERS[request.param][1](root)
    return root


def _start_beside(root: Path) -> Splits:
    return load_splits(root, DataSettings(), cache=root.parent / "cache")


def test_a_later_start_reads_no_file_for_each_image(files_each: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked, first = load_splits(files_each, DataSettings()), _start_beside(files_each)
    monkeypatch.setattr(start, "read_splits", _read_nothing)
    second = _start_beside(files_each)

    _assert_all_same(first, checked)
    _assert_all_same(second, checked)


def _add_an_image(root: Path) -> None:
    image = next(path for path in root.rglob("*a.png"))
    Image.new("RGB", (24, 20), "teal").save(image.with_name("new.png"))


def _write_a_space(path: Path) -> None:
    _write_over(path, path.read_bytes().replace(b"\n", b" ", 1))


def _a_label_file(root: Path) -> Path:
    return next(path for path in sorted(root.rglob("a.*")) if path.suffix in (".txt", ".xml"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a label file is written over": lambda root: _write_a_space(_a_label_file(root)),
    "a label file is gone": lambda root: _a_label_file(root).unlink(),
    "a label file has another name": lambda root: _a_label_file(root).rename(_a_label_file(root).with_name("z.txt")),
    "an image is new": _add_an_image,
    "a file is new": lambda root: (root / "classes.txt").write_text("cat\ndog\nowl\n"),
    "a link to nothing is new": lambda root: (root / "link").symlink_to("nothing"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_among_the_files_for_each_image_is_noticed(
    change: Callable[[Path], object], files_each: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start_beside(files_each)
    change(files_each)
    monkeypatch.setattr(start, "read_splits", _read_nothing)

    with pytest.raises(AssertionError, match="the data is read"):
        _start_beside(files_each)


def test_a_folder_that_links_to_itself_is_looked_at_once(tmp_path: Path) -> None:
    WRITERS["voc"][1](tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)

    assert tree_identity(tmp_path) == tree_identity(tmp_path) is not None
