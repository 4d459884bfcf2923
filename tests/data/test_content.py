from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.data import ImageRecord, content
from smnas_optuna.data.content import Content
from smnas_optuna.errors import DataError

from ..as_nobody import as_nobody
from .records import index_content, make_record

HEIGHT, WIDTH = 6, 10


def _write_noise(folder: Path, count: int) -> list[ImageRecord]:
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return [make_record(folder / f"{number}.png", HEIGHT, WIDTH) for number in range(count)]


def test_content_is_told_by_pixels_not_by_name_or_format(tmp_path: Path) -> None:
    one, other = _write_noise(tmp_path, 2)
    with Image.open(one.path) as image:
        image.save(tmp_path / "same.bmp")

    hashes = index_content([one, other, make_record(tmp_path / "same.bmp", HEIGHT, WIDTH)], None)

    assert hashes[one.path] == hashes[tmp_path / "same.bmp"]
    assert hashes[one.path] != hashes[other.path]


def test_the_second_start_decodes_nothing_and_a_changed_image_again(tmp_path: Path) -> None:
    records = _write_noise(tmp_path, 3)
    index_file = tmp_path / "cache" / "index.json"
    progress: list[tuple[int, int]] = []

    hashes = index_content(records, index_file, lambda done, total: progress.append((done, total)))
    assert progress == [(1, 3), (2, 3), (3, 3)]
    progress.clear()
    assert index_content(records, index_file, lambda done, total: progress.append((done, total))) == hashes
    assert progress == []

    records[1].path.write_bytes(records[0].path.read_bytes())
    os.utime(records[1].path, ns=(1, 1))
    assert index_content(records, index_file, lambda done, total: progress.append((done, total))) == {
        **hashes,
        records[1].path: hashes[records[0].path],
    }
    assert progress == [(1, 1)]


DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut": lambda whole: whole[:9],
    "a list": lambda _: "[1]",
    "numbers": lambda whole: re.sub(r': "[^"]*"', ": 1", whole),
    "no hashes": lambda whole: re.sub(r': "[^"]*"', ': "zz"', whole),
    "long hashes": lambda whole: re.sub(r': "[^"]*"', f': "{"0" * 10**6}"', whole),
    "nested": lambda _: "[" * 200_000,
    "lists": lambda whole: re.sub(r': "[^"]*"', ": [[[]]]", whole),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_index_is_made_anew(damage: Callable[[str], str], tmp_path: Path) -> None:
    records = _write_noise(tmp_path, 2)
    index_file = tmp_path / "index.json"
    hashes = index_content(records, index_file)
    whole = index_file.read_text()
    index_file.write_text(damage(whole))

    assert index_content(records, index_file) == hashes
    assert index_file.read_text() == whole
    assert list(tmp_path.glob("*.tmp")) == []


def test_all_images_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    records = _write_noise(tmp_path, 4)
    records[1].path.write_bytes(b"")
    records[3].path.write_bytes(b"")

    with pytest.raises(DataError) as error:
        index_content(records, None)

    assert str(error.value).splitlines()[0] == "2 of 4 images cannot be used"
    assert str(error.value).splitlines()[1].startswith(f"  first: {records[1].path}: the image cannot be read")


def test_what_is_decoded_is_kept_while_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "KEEP_SECONDS", 0.0)
    records, index_file = _write_noise(tmp_path, 5), tmp_path / "index.json"
    kept: list[tuple[int, int]] = []

    def look(done: int, _: int) -> None:
        kept.append((done, len(json.loads(index_file.read_text()))))

    hashes = index_content(records, index_file, look)

    assert kept == [(number, number) for number in range(1, 6)]
    assert index_content(records, index_file, lambda *_: pytest.fail("nothing is decoded again")) == hashes


def test_an_index_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    records = _write_noise(tmp_path, 1)
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(DataError, match=r"index\.json: the index of the images cannot be written: "):
        index_content(records, tmp_path / "file" / "index.json")


def test_who_may_only_read_the_folder_of_the_index_needs_none(tmp_path: Path) -> None:
    records = _write_noise(tmp_path, 2)
    hashes = index_content(records, None)
    folder = tmp_path / "cache"
    folder.mkdir()

    assert as_nobody(lambda: str(index_content(records, folder / "index.json") == hashes), folder) == "True"
    assert not list(folder.iterdir())


def test_an_index_of_an_older_version_is_made_anew(tmp_path: Path) -> None:
    records = _write_noise(tmp_path, 2)
    index_file = tmp_path / "index.json"
    hashes = index_content(records, index_file)
    whole = index_file.read_text()
    index_file.write_text(re.sub(r'": "([0-9a-f]*) [^"]*"', r'": "\1"', whole))

    assert index_content(records, index_file) == hashes
    assert index_file.read_text() == whole


def test_an_entry_of_an_index_is_read_as_it_was_written() -> None:
    content = Content(
        digest="0f" * 16,
        low=3,
        high=65535,
        most=70,
        nearly_all=900,
        deep=True,
        orientation=6,
        turned=False,
        several=True,
        look=12,
    )
    text = content.as_text()

    assert Content.from_text(text) == content
    assert Content.from_text(text + " ") is None
    assert Content.from_text(text.replace(" most 70 900", "")) is None, "of a version that did not know these"
    assert Content.from_text(7) is None

    assert Content.from_text(content.as_text()) == content
    assert Content.from_text(content.as_text() + " ") is None
    assert Content.from_text(7) is None
