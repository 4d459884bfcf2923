from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from smnas_optuna.stopwatch.store import Store, TooLargeError, WrongContentError


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _add(store: Store, content: bytes, *, digest: str | None = None, size: int | None = None) -> str:
    digest = _digest(content) if digest is None else digest
    store.add(digest, len(content) if size is None else size, io.BytesIO(content).read)
    return digest


def test_a_file_is_found_by_the_hash_of_its_content() -> None:
    with Store() as store:
        digest = _add(store, b"content")

        assert store.path(digest).read_bytes() == b"content"
        assert store.missing([digest, "other", "other"]) == ["other"]
        assert store.num_bytes == 7


def test_a_file_that_comes_twice_is_kept_once() -> None:
    with Store() as store:
        assert _add(store, b"content") == _add(store, b"content")

        assert store.num_bytes == 7
        assert len(list(store.path(_digest(b"content")).parent.iterdir())) == 1


def test_the_folder_is_removed_at_the_end() -> None:
    with Store() as store:
        folder = store.path(_add(store, b"content")).parent
        assert folder.stat().st_mode & 0o077 == 0, "nobody else reads it"

    assert not folder.exists()


@pytest.mark.parametrize(
    ("digest", "size"),
    [(_digest(b"other"), None), ("../../etc/passwd", None), ("", None), (None, 8), (None, 6)],
    ids=["another hash", "a path", "nothing", "cut off", "longer than said"],
)
def test_what_is_not_as_it_was_said_to_be_is_not_kept(digest: str | None, size: int | None) -> None:
    with Store() as store:
        folder = store.path(_add(store, b"first")).parent

        with pytest.raises(WrongContentError):
            _add(store, b"content", digest=digest, size=size)

        assert store.num_bytes == 5
        assert len(list(folder.iterdir())) == 1


def test_the_names_on_the_disk_are_numbers() -> None:
    with Store() as store:
        paths = [store.path(_add(store, content)) for content in (b"a", b"b", b"c")]

    assert [path.name for path in paths] == ["1", "2", "3"]


def test_the_least_recently_used_make_room() -> None:
    with Store(max_bytes=10) as store:
        first, second = _add(store, b"1111"), _add(store, b"2222")
        assert store.path(first).is_file()

        third = _add(store, b"3333")

        assert store.missing([first, second, third]) == [second]
        assert store.num_bytes == 8
        _add(store, b"4" * 10)
        assert store.missing([first, second, third]) == [first, second, third]


def test_a_file_that_is_too_large_drives_nothing_out() -> None:
    with Store(max_bytes=10, max_file_bytes=6) as store:
        first = _add(store, b"1111")

        for size in (7, 11, 2**60):
            with pytest.raises(TooLargeError):
                _add(store, b"", size=size)

        assert store.missing([first]) == []


def test_an_error_while_it_is_read_leaves_nothing(tmp_path: Path) -> None:
    def lost(_: int) -> bytes:
        raise ConnectionResetError

    with Store() as store:
        folder = store.path(_add(store, b"first")).parent
        with pytest.raises(ConnectionResetError):
            store.add(_digest(b"x"), 1, lost)

        assert len(list(folder.iterdir())) == 1
