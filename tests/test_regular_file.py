from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.regular_file import LONGEST_TEXT, check_regular_file, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_read_in_the_encoding_of_its_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    (tmp_path / "a").write_bytes(f"{mark}größer\r\n図".encode(encoding))

    assert read_text(tmp_path / "a") == "größer\r\n図"


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    (tmp_path / "b").symlink_to("a")

    assert read_text(tmp_path / "b") == "text"


@pytest.mark.parametrize("read", [check_regular_file, read_text])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "missing", "impossible"])
def test_what_is_no_regular_file_is_an_error_at_once(kind: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path, expected = tmp_path / "a", errno.EINVAL
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "device":
            path = Path("/dev/zero")
        case "folder":
            path, expected = tmp_path, errno.EISDIR
        case "missing":
            expected = errno.ENOENT
        case "impossible":
            path = tmp_path / "a\0b"

    with pytest.raises(OSError) as caught:
        read(path)

    assert caught.value.errno == expected
    assert caught.value.filename is not None
    assert str(caught.value.filename) == str(path)


def test_a_file_that_is_too_large_for_a_text_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)  # takes no space

    with pytest.raises(OSError, match="it is larger than 1,024 KiB") as caught:
        read_text(tmp_path / "a")
    assert caught.value.errno == errno.EFBIG

    (tmp_path / "b").write_text("x" * LONGEST_TEXT)
    assert len(read_text(tmp_path / "b")) == LONGEST_TEXT


def test_bytes_that_are_no_text_are_an_error_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc\xff")

    with pytest.raises(OSError, match="it is no text in UTF-8: invalid start byte at byte 3") as caught:
        read_text(tmp_path / "a")
    assert caught.value.errno == errno.EILSEQ
