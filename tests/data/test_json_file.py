from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from smnas_optuna.data.json_file import read_json
from tests.data.hostile import time_limit


def _write(folder: Path, text: bytes | str) -> Path:
    path = folder / "file.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_every_encoding_of_json_is_read(encoding: str, tmp_path: Path) -> None:
    value = {"name": "Kätzchen 🐈", "numbers": [1, 2.5, None, True]}

    assert read_json(_write(tmp_path, json.dumps(value, ensure_ascii=False).encode(encoding))) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[" * 10**6, "lists or objects are nested too deeply"),
        ('{"a":' * 10**6, "lists or objects are nested too deeply"),
        (b'"\xff"', "'utf-8' codec can't decode byte 0xff"),
        ("9" * 5_000, "Exceeds the limit"),
    ],
    ids=["empty", "nested lists", "nested objects", "no text", "a number without end"],
)
def test_what_is_not_json_is_a_value_error(text: bytes | str, why: str, tmp_path: Path) -> None:
    with time_limit(), pytest.raises(ValueError) as error:
        read_json(_write(tmp_path, text))

    assert why in str(error.value)
    assert not isinstance(error.value, UnicodeDecodeError)  # which holds, and prints, the whole text


BOMBS = {
    "lists": "[]",
    "lists of lists": "[[[[[[[[]]]]]]]]",
    "objects": "{}",
    "objects with a key": '{"a":0}',
    "numbers": "1.5",
    "texts": '"ab"',
    "long texts": f'"{"a" * 1_000}"',
    "one wide letter": f'"🐈{"a" * 1_000}"',
    "one wide letter, escaped": rf'"\ud83d\udc08{"a" * 1_000}"',
    "boxes": '{"id":123456,"image_id":777,"category_id":3,"bbox":[12.5,13.5,100.25,7.75],"area":776.9,"iscrowd":0}',
    "lists in lists, deeply": "[" * 500 + "]" * 500,
    "objects in objects, deeply": '{"":' * 500 + "{}" + "}" * 500,
}
FILES = {name: "[" + ",".join([part] * (100_000 // len(part))) + "]" for name, part in BOMBS.items()}
FILES["an object whose table has just doubled"] = "{" + ",".join(f'"{key:x}":0' for key in range(21_846)) + "}"


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_is_read_only_if_it_fits_into_memory(text: str, tmp_path: Path) -> None:
    path = _write(tmp_path, text)
    tracemalloc.start()
    try:
        read_json(path)
        _, took = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    with pytest.raises(MemoryError, match=r"it takes about \d+ MiB, and \d+ MiB are free"):
        read_json(path, lambda: took * 9 // 10)
    read_json(path, lambda: took * 5)  # the estimate is rough, but not so rough that real files would be refused


def test_a_file_larger_than_memory_is_not_even_read(tmp_path: Path) -> None:
    path = _write(tmp_path, "")
    os.truncate(path, 2**40)  # takes no room on the disk

    with time_limit(1), pytest.raises(MemoryError, match="it takes about 1,048,576 MiB, and 1 MiB are free"):
        read_json(path, lambda: 2**20)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with time_limit(1), pytest.raises(OSError, match="it is a pipe or a device, not a regular file"):
            read_json(path)
