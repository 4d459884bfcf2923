"""Files that hold something else than an image or annotations."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.data.annotation_file import read_document
from smnas_optuna.data.missing_fields import read_sizes
from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import decode_upright
from smnas_optuna.runtime.other_content import other_content


def _array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((3, 3)))
    return stream.getvalue()


AGAIN = "copy or download it again, or leave it out"
CONTENTS = {
    "LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "it is a pointer of Git LFS",
        "fetch the files that it points to: git lfs pull",
    ),
    "web page": (b"\n <!DOCTYPE HTML><html>", "it is a web page", f"{AGAIN}: a page was saved in its place"),
    "packed": (gzip.compress(b"{}"), "it is packed by gzip", "unpack it"),
    "array": (_array(), "it is an array of NumPy", "write it as PNG or JPEG"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(90), "it is a HEIC image", "write it as PNG or JPEG"),
    "DICOM": (bytes(128) + b"DICM\x02", "it is a DICOM image", "write it as PNG or JPEG"),
    "drawing": (b"\xef\xbb\xbf<SVG/>", "it is an SVG drawing", "write it as PNG or JPEG"),
    "nothing": (b"", "it is an empty file", AGAIN),
    "zeros": (bytes(5000), "it has only zero bytes", AGAIN),
}


@pytest.mark.parametrize(("content", "what", "remedy"), CONTENTS.values(), ids=CONTENTS)
def test_what_stands_in_the_place_of_a_file_is_said(content: bytes, what: str, remedy: str, tmp_path: Path) -> None:
    image, annotations = tmp_path / "a.jpg", tmp_path / "a.json"
    image.write_bytes(content)
    annotations.write_bytes(content)

    with pytest.raises(DataError) as error:
        decode_upright(image)
    assert str(error.value) == f"{image}: the image cannot be read: {what}\n  fix: {remedy}"
    with pytest.raises(DataError) as error:
        read_document(annotations)
    assert str(error.value) == f"{annotations}: this is not JSON: {what}\n  fix: {remedy}"


def test_several_files_have_one_remedy(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_bytes(CONTENTS["LFS"][0])

    with pytest.raises(DataError) as error:
        read_sizes(paths)
    assert str(error.value).splitlines() == [
        "3 of 3 images cannot be used",
        f"  first: {paths[0]}: the image cannot be read: it is a pointer of Git LFS",
        "  fix: fetch the files that it points to: git lfs pull",
    ]

    paths[1].write_bytes(b"no image")
    with pytest.raises(DataError, match="3 of 3 images") as error:
        read_sizes(paths)
    assert error.value.fix == "replace these files, or remove them"


def test_what_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps({"images": []}))
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1")

    assert [other_content(tmp_path / name) for name in ("a.png", "a.json", "a.txt", "missing", ".")] == [None] * 5


def test_a_tiff_that_pillow_does_not_know_says_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("L", (3, 3)).save(path, tiffinfo={277: 5})

    with pytest.raises(DataError) as error:
        decode_upright(path)

    assert error.value.message == (
        f"{path}: the image cannot be read: it is a TIFF of a kind that Pillow does not know: write it with 1, 3 or 4 "
        "bands of 8 or 16 bits"
    )
