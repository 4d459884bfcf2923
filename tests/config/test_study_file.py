from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from smnas_optuna.config import check_study_dir, load_settings
from smnas_optuna.errors import ConfigError, StudyError

from .test_settings import ARCH, MINIMAL


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(MINIMAL)
    return tmp_path


def _refusal(study_dir: Path, content: str | bytes) -> ConfigError:
    """The error for a study file of that content; it names the file."""
    written = content.encode() if isinstance(content, str) else content
    (study_dir / "study.toml").write_bytes(written)
    with pytest.raises(ConfigError) as refusal:
        load_settings(study_dir)
    assert refusal.value.message.startswith(f"{study_dir / 'study.toml'}: ")
    return refusal.value


@pytest.mark.parametrize(
    ("toml", "key", "nearest"),
    [
        ("[train]\nepoch = 3", "train.epoch", "epochs"),
        ("[train]\nlearning_rte = 3", "train.learning_rte", "learning_rate"),
        ("[trian]\nepochs = 3", "trian", "train"),
        ("[space.structural]\nneck_channel = [8]", "space.structural.neck_channel", "neck_channels"),
        ("[space.structurl]\nheads = ['fc']", "space.structurl", "structural"),
        ("[data.shapes]\ntrain_image = 3", "data.shapes.train_image", "train_images"),
        ("[detector]\nnms_iuo = 0.5", "detector.nms_iuo", "nms_iou"),
        ("[latency]\nprecission = 0.05", "latency.precission", "precision"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    study_dir: Path, toml: str, key: str, nearest: str
) -> None:
    refusal = _refusal(study_dir, MINIMAL + toml)

    assert f"unknown key `{key}`" in refusal.message
    assert refusal.fix.startswith(f"did you mean `{nearest}`? known here: ")


def test_an_unknown_key_names_all_known_ones(study_dir: Path) -> None:
    refusal = _refusal(study_dir, MINIMAL + "nope = 1")
    assert refusal.fix.endswith("max_params, ap_spread, rungs, rung_margin, keep_weights")


def test_several_problems_are_counted_and_an_unknown_key_comes_first(study_dir: Path) -> None:
    refusal = _refusal(study_dir, MINIMAL + "trials = 0\n[train]\nepochs = -1\nepocs = 3")

    assert refusal.message.endswith("unknown key `train.epocs` (3 problems in all)")


def test_a_long_key_and_a_long_value_are_shortened(study_dir: Path) -> None:
    key = _refusal(study_dir, MINIMAL + "e" * 100_000 + " = 1")
    value = _refusal(study_dir, f"{MINIMAL}[train]\nepochs = '{'x' * 100_000}'")

    assert "unknown key `search.eeee" in key.message
    assert len(str(key)) < 1000
    assert value.message.endswith("x'")
    assert len(str(value)) < 500


def test_a_key_with_line_breaks_stays_on_one_line(study_dir: Path) -> None:
    refusal = _refusal(study_dir, MINIMAL + '"a\\n  fix: remove everything" = 1')

    assert refusal.message.splitlines() == [refusal.message]
    assert r"`search.'a\n  fix: remove everything'`" in refusal.message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_settings(tmp_path)

    assert refusal.value.message == f"{tmp_path / 'study.toml'}: there is no such file"
    assert "studies/shapes" in refusal.value.fix


def test_a_file_that_is_not_toml_is_refused_with_the_line(study_dir: Path) -> None:
    refusal = _refusal(study_dir, "[train]\nepochs = = 3")

    assert "is not TOML: " in refusal.message
    assert "line 2" in refusal.message
    assert refusal.fix == "correct that line; see https://toml.io"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_may_begin_with_a_byte_order_mark(study_dir: Path, encoding: str) -> None:
    (study_dir / "study.toml").write_bytes(f"# größer\n{MINIMAL}".encode(encoding))

    assert load_settings(study_dir).search.baselines == (ARCH,)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\xff\xfe\x00", "it is no text in UTF-16-LE: truncated data at byte 2"),
        (b"a = '\xff'", "it is no text in UTF-8: invalid start byte at byte 5"),
        (b"# " + b"x" * 2**18, "it is larger than 256 KiB"),
    ],
    ids=["half a letter", "latin-1", "large"],
)
def test_what_is_no_text_is_refused(study_dir: Path, content: bytes, cause: str) -> None:
    refusal = _refusal(study_dir, content)

    assert refusal.message.endswith(f"study.toml: cannot be read: {cause}")
    assert refusal.fix == "make it a readable text file in UTF-8"


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("[" * 100_000 + "]" * 100_000, "lists or tables are nested too deeply"),
        ("{a=" * 50_000 + "1" + "}" * 50_000, "lists or tables are nested too deeply"),
        ("9" * 5000, "a number has thousands of digits"),
        ("-" + "1_" * 5000 + "0", "a number has thousands of digits"),
        ("1" + ".a" * 401, "line 5 has more than 400 dots"),
    ],
    ids=["lists", "tables", "digits", "digits with underscores", "dots"],
)
def test_what_python_cannot_parse_is_refused(study_dir: Path, value: str, cause: str) -> None:
    refusal = _refusal(study_dir, f"{MINIMAL}\nseed = {value}")

    assert refusal.message.endswith(f"is not a study file: {cause}")


@pytest.mark.parametrize("digits", ["0x" + "f" * 9000, "0b" + "1" * 50_000], ids=["hexadecimal", "binary"])
@pytest.mark.parametrize("key", ["[train]\nepochs", "[train]\nlearning_rate", "[space.structural]\nneck_channels"])
def test_a_number_that_python_cannot_write_is_refused(study_dir: Path, key: str, digits: str) -> None:
    refusal = _refusal(study_dir, f"{MINIMAL}{key} = {f'[{digits}]' if 'neck' in key else digits}")

    assert "a number of thousands of digits" in refusal.message


@pytest.mark.parametrize("keys", [400, 20_000])
def test_deep_dotted_keys_are_refused_at_once(study_dir: Path, keys: int) -> None:
    _refusal(study_dir, MINIMAL + "a." * keys + "a = 1")


def test_a_file_of_many_deep_keys_is_refused(study_dir: Path) -> None:
    _refusal(study_dir, MINIMAL + "\n".join(f"k{number}.{'a.' * 390}a = 1" for number in range(300)))


def _make(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
        case "circle":
            path.symlink_to(path)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("folder", "Is a directory"),
        ("pipe", "it is a pipe or a device, not a regular file"),
        ("device", "it is a pipe or a device, not a regular file"),
        ("circle", "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_refused_at_once(study_dir: Path, kind: str, cause: str) -> None:
    _make(kind, study_dir / "study.toml")

    with pytest.raises(ConfigError, match=re.escape(f"study.toml: cannot be read: {cause}")):
        load_settings(study_dir)


def test_a_file_in_the_folders_place_is_refused(study_dir: Path) -> None:
    with pytest.raises(StudyError) as refusal:
        load_settings(study_dir / "study.toml")

    assert refusal.value.message == f"{study_dir / 'study.toml'}: is a file, not a study folder"
    assert refusal.value.fix == f"name its folder: {study_dir}"

    other = study_dir / "notes.txt"
    other.touch()
    with pytest.raises(StudyError) as refusal:
        check_study_dir(other)
    assert refusal.value.fix.startswith("name a folder that holds a study.toml")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("nowhere", "there is no such folder"),
        ("study.toml/inside", "there is no such folder"),
        ("a" * 300, "cannot be opened: File name too long"),
        ("a\0b", "there is no such folder"),
    ],
    ids=["missing", "below a file", "too long", "NUL"],
)
def test_a_folder_that_is_none_is_refused(study_dir: Path, name: str, cause: str) -> None:
    for look in (check_study_dir, load_settings):
        with pytest.raises(StudyError) as refusal:
            look(study_dir / name)
        assert refusal.value.message.endswith(f": {cause}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(study_dir: Path) -> None:
    (study_dir / "study.toml").chmod(0)

    with pytest.raises(ConfigError, match=r"study\.toml: cannot be read: Permission denied"):
        load_settings(study_dir)
