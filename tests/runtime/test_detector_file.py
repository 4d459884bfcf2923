from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from onnx import helper

from smnas_optuna.errors import FileError
from smnas_optuna.runtime import detector_file
from smnas_optuna.runtime.detector_file import DetectorFile

from .exported_files import DESCRIPTION, make_content, make_model

EXPORT = "\n  fix: export the detector again, with `smnas export`"
NAME = "\n  fix: name a file that `smnas export` has written"


def _refusal(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        DetectorFile.read(path)
    return str(caught.value)


def test_a_file_is_read_with_its_description(tmp_path: Path) -> None:
    path, content = tmp_path / "detector.onnx", make_content()
    path.write_bytes(content)

    file = DetectorFile.read(path)

    assert (file.name, file.content, file.description) == (str(path), content, DESCRIPTION)
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detector.onnx"
    assert _refusal(path) == f"{path}: there is no such file{NAME}"
    assert _refusal(tmp_path) == f"{tmp_path}: it cannot be read: Is a directory{NAME}"
    os.mkfifo(path)
    assert _refusal(path) == f"{path}: it cannot be read: it is a pipe or a device, not a regular file{NAME}"
    path.unlink()
    path.write_bytes(make_content())
    monkeypatch.setattr(detector_file, "MAX_BYTES", 1000)
    assert _refusal(path) == f"{path}: it is larger than 1,000 bytes, the most of an ONNX file{EXPORT}"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is no exported detector: it has no graph"),
        (b"no detector", "it is no exported detector: it is no ONNX file"),
        (make_content()[:1000], "it is no exported detector: it is cut off: "),
        (make_content("{}"), "its format is None, and this version of smnas-optuna reads format 1"),
        (
            helper.make_model(make_model().graph).SerializeToString(),
            "it is no exported detector: it has no description, or its end is missing",
        ),
    ],
    ids=["empty", "text", "cut off", "another description", "another ONNX file"],
)
def test_other_files_are_refused(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(content)

    assert _refusal(path).startswith(f"{path}: {what}")
