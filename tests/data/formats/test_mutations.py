"""Files of YOLO and VOC that something spoiled: each is refused with a clear error, or read correctly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.data.formats.split_names import Role
from smnas_optuna.errors import DataError
from tests.data.formats.writers import WRITERS
from tests.data.hostile import check_message, time_limit

PIECES = [
    *(
        b"",
        b" ",
        b"\n",
        b"\r\n",
        b"\t",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"-",
        b".",
        b"1e999",
        b"nan",
        b"inf",
        b"0x1",
    ),
    *(b"9" * 5000, b"-1", b"2", b"0.5", b"1.5", b"1e-320", b"1_0", "٣".encode(), "ä".encode(), b"\xe4", b"\x1b[31m"),
    *(
        b"..",
        b"../../etc/passwd",
        b"/",
        b"\\",
        b"\xe2\x80\xae",
        b"{",
        b"[",
        b"]",
        b"*a",
        b"&a ",
        b"!!python/object:os.system ",
    ),
    *(
        b"!!int ''",
        b"? ",
        b"- ",
        b": ",
        b"<<: *x",
        b"%YAML 9.9",
        b"---\n",
        b"...\n",
        b"'",
        b'"',
        b"#",
        b"|\n",
        b"[" * 3000,
    ),
    *(
        b"<!DOCTYPE a>",
        b"<!ENTITY b 'c'>",
        b"&b;",
        b"&#0;",
        b"&lt;",
        b"<![CDATA[",
        b"<!--",
        b"<a>" * 3000,
        b"<object>",
        b"</object>",
    ),
    *(b"<bndbox/>", b"<?xml version='1.0' encoding='utf-16'?>", b"<annotation>", b"xmlns='a' ", b"true", b"null"),
]
SUFFIXES = (".txt", ".yaml", ".names", ".xml", ".json")
SPOILED = ("yolo of roboflow", "yolo of darknet", "voc", "roboflow")


def _spoil(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        end = min(end, at + rng.choice((0, 1, 4, 1000)))
        match rng.randrange(6):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + content[end:]
            case 2:
                content = content[:at] + content[at:end] * rng.choice((2, 50)) + content[end:]
            case 3 if at < len(content):
                content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            case 4:
                lines = content.split(b"\n")
                rng.shuffle(lines)
                content = b"\n".join(lines)
            case _:
                content = content[:at] + rng.choice(PIECES) + content[end:]
    return content


def check_folder(root: Path, format_: str) -> Mapping[Role, CocoDataset] | None:
    """Return what could be read of the folder; None if it was refused with a clear error."""
    settings = DataSettings(format=format_, drop_empty_boxes=True)  # type: ignore[arg-type]
    try:
        with time_limit(20):
            loaded, _ = load_datasets(root, settings)
    except DataError as error:
        check_message(error)
        return None
    for dataset in loaded.values():
        assert dataset.images
        for image in dataset.images:
            assert image.path.is_relative_to(root)
            assert image.path.is_file()
            assert np.isfinite(image.boxes).all()
            assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
            assert (image.boxes >= 0).all()
            assert (image.boxes[:, 2:] <= (image.width, image.height)).all()
            assert ((image.labels >= 1) & (image.labels <= dataset.num_classes)).all()
        counts = Counter(row["image_id"] for row in dataset.annotations)
        assert counts == +Counter({image.image_id: len(image.boxes) for image in dataset.images})
        assert all(len(note) < 1500 and note.isprintable() for note in dataset.notes)
    return loaded


def _mutate(name: str, root: Path, seeds: range) -> Counter[bool]:
    format_, write = WRITERS[name]
    write(root)
    files = sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES)
    assert check_folder(root, format_)
    outcomes = Counter[bool]()
    for seed in seeds:
        rng = random.Random(f"{name} {seed}")
        spoiled = rng.sample(files, rng.choice((1, 1, 2)))
        contents = {path: path.read_bytes() for path in spoiled}
        for path, content in contents.items():
            path.write_bytes(_spoil(content, rng))
        try:
            outcomes[check_folder(root, format_) is not None] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}, files {[str(path) for path in spoiled]}")
            raise
        finally:
            for path, content in contents.items():
                path.write_bytes(content)
    return outcomes


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_files_are_refused_or_read_correctly(name: str, tmp_path: Path) -> None:
    outcomes = _mutate(name, tmp_path, range(60))
    assert min(outcomes[True], outcomes[False]) > 0  # both happen, or this would test nothing


@pytest.mark.nightly
@pytest.mark.parametrize("name", SPOILED)
def test_a_thousand_spoiled_files_are_refused_or_read_correctly(name: str, tmp_path: Path) -> None:
    outcomes = _mutate(name, tmp_path, range(60, 1060))
    assert min(outcomes[True], outcomes[False]) > 50
