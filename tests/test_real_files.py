from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.real_files import (
    LONGEST_TEXT,
    append_line,
    check_regular_file,
    files_in,
    first_bytes,
    is_real_folder,
    is_regular_file,
    linked_part,
    read_text,
    remove_file,
    write_anew,
)

Make = Callable[[Path, Path], object]
"""Puts something at the first path, which may lead to the second one."""
KINDS: dict[str, Make] = {
    "nothing": lambda _path, _: None,
    "file": lambda path, _: path.write_text("here"),
    "second name of a file": lambda path, other: path.hardlink_to(other),
    "link": lambda path, other: path.symlink_to(other),
    "link to nothing": lambda path, other: path.symlink_to(other.with_name("nothing")),
    "link in a circle": lambda path, _: path.symlink_to(path),
    "folder": lambda path, _: path.mkdir(),
    "pipe": lambda path, _: os.mkfifo(path),
}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").write_text("theirs")
    return tmp_path / "other"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path, other: Path) -> str:
    """What ``tmp_path / "x"`` is."""
    KINDS[request.param](tmp_path / "x", other)
    return str(request.param)


def test_a_regular_file_and_a_real_folder_are_no_link(tmp_path: Path, kind: str) -> None:
    assert is_regular_file(tmp_path / "x") == (kind in ("file", "second name of a file"))
    assert is_real_folder(tmp_path / "x") == (kind == "folder")
    assert not is_regular_file(tmp_path / "a\0b")
    assert not is_real_folder(tmp_path / "a\0b")


def test_only_a_regular_file_is_removed_and_what_a_link_leads_to_stays(tmp_path: Path, kind: str, other: Path) -> None:
    before = {each.name for each in tmp_path.iterdir()}

    remove_file(tmp_path / "x")

    gone = {"x"} if kind in ("file", "second name of a file") else set()
    assert {each.name for each in tmp_path.iterdir()} == before - gone
    assert other.read_text() == "theirs"


def test_a_new_file_takes_the_place_of_all_but_a_folder_and_nothing_else_changes(
    tmp_path: Path, kind: str, other: Path
) -> None:
    if kind == "folder":
        with pytest.raises(OSError, match="Is a directory"):
            write_anew(tmp_path / "x", b"new")
        return

    write_anew(tmp_path / "x", b"new")

    assert is_regular_file(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert other.read_text() == "theirs"


def test_a_line_goes_to_a_file_of_its_own_or_nowhere(tmp_path: Path, kind: str, other: Path) -> None:
    file, refused = tmp_path / "x", {"link", "link to nothing", "link in a circle", "folder", "pipe"}
    if kind in refused:
        with pytest.raises(OSError, match=r"symbolic links|directory|pipe|regular file"):
            append_line(file, "line")
    else:
        append_line(file, "line \udcff")
        append_line(file, "more")
        before = {"nothing": "", "file": "here", "second name of a file": "theirs"}[kind]
        assert file.read_text() == f"{before}line \\udcff\nmore\n"
    assert other.read_text() == "theirs"
    assert not (tmp_path / "nothing").exists()


def test_reading_follows_a_link_and_waits_for_no_pipe(tmp_path: Path, kind: str) -> None:
    content = {"file": "here", "link": "theirs", "second name of a file": "theirs"}.get(kind)
    if content is None:
        with pytest.raises(OSError, match=r"No such file|symbolic links|directory|pipe"):
            read_text(tmp_path / "x")
        with pytest.raises(OSError, match=r"No such file|symbolic links|directory|pipe"):
            first_bytes(tmp_path / "x", 2)
        return
    assert read_text(tmp_path / "x") == content
    assert first_bytes(tmp_path / "x", 2) == content[:2].encode()


def test_the_first_link_of_a_path_is_found_and_the_root_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "real" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    root = tmp_path / "root"
    assert linked_part(root / "a" / "b", root) is None
    assert linked_part(root / "a" / "nothing" / "c", root) is None

    (root / "a" / "c").symlink_to(root / "a" / "b")
    (root / "l").symlink_to(root / "a")

    assert linked_part(root / "a" / "c", root) == root / "a" / "c"
    assert linked_part(root / "l" / "c" / "d", root) == root / "l"


def test_files_of_a_folder_are_its_regular_files(tmp_path: Path, kind: str) -> None:
    found = [each.name for each in files_in(tmp_path)]

    assert found == (["other", "x"] if kind in ("file", "second name of a file") else ["other"])
    (tmp_path / "folder").symlink_to(tmp_path)
    assert list(files_in(tmp_path / "folder")) == list(files_in(tmp_path / "none")) == []


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
