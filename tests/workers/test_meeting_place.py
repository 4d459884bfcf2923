from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smnas_optuna.workers.measurement_lock import MeasurementLock
from smnas_optuna.workers.meeting_place import FILES, FOLDER, open_own, open_place, open_shared, temporary_folders

ONE, OTHER = 54321, 54322
"""Users without a name."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder for temporary files, as /tmp is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


@contextmanager
def user(number: int, umask: int = 0o022) -> Iterator[None]:
    """Be that user while the body runs."""
    before = os.umask(umask)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.umask(before)


def meet(folder: Path, notes: list[str]) -> bool:
    """Work and measure at ``folder``; return whether the measurement had the machine for itself."""
    measurement_lock = MeasurementLock(folder, patience_seconds=0.1, note=notes.append)
    with measurement_lock.running():
        measurement_lock.pause()
        with measurement_lock.exclusive() as alone:
            return alone


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_it_is_made_for_all_users_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        open_shared([tmp_path]).close()
    finally:
        os.umask(before)

    assert mode(tmp_path / FOLDER) == 0o1777
    assert [mode(tmp_path / FOLDER / name) for name in FILES] == [0o666, 0o666]


def test_what_an_older_version_made_for_one_user_is_opened_for_all_by_that_user(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir(mode=0o700)
    (tmp_path / FOLDER / FILES[0]).touch(mode=0o600)

    open_shared([tmp_path]).close()

    assert mode(tmp_path / FOLDER) == 0o1777
    assert [mode(tmp_path / FOLDER / name) for name in FILES] == [0o666, 0o666]


def test_a_file_with_content_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    secret = tmp_path / FOLDER / FILES[0]
    secret.write_text("moved here by somebody else")
    secret.chmod(0o600)

    open_shared([tmp_path]).close()

    assert mode(secret) == 0o600


@as_root
def test_two_users_meet_whatever_the_umask_of_the_first(everybodys: Path) -> None:
    notes = list[str]()
    with user(ONE, 0o077):
        first = MeasurementLock(everybodys, note=notes.append)
        with first.running():
            pass
    with user(OTHER, 0o077), first.running():
        assert not meet(everybodys, notes), "the first one is at work"
    with user(OTHER, 0o077):
        assert meet(everybodys, [])

    assert [note for note in notes if "cannot be used" in note] == []
    assert (everybodys / FOLDER).stat().st_uid == ONE


def make_file(path: Path) -> None:
    path.touch()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.mkdir()
    path.symlink_to(elsewhere)


def make_link_to_a_file(path: Path) -> None:
    path.with_name("file").write_text("mine")
    path.symlink_to(path.with_name("file"))


def make_second_name(path: Path) -> None:
    path.with_name("file").write_text("mine")
    path.hardlink_to(path.with_name("file"))


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [make_file, make_pipe, make_link, make_dangling_link, make_loop])
def test_what_has_its_name_and_is_no_folder_is_left_and_another_one_serves(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / FOLDER)
    before = sorted(tmp_path.rglob("*"))
    notes = list[str]()

    assert meet(tmp_path, notes)

    own = tmp_path / f"{FOLDER}-{os.geteuid()}"
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [own, *sorted(own / name for name in FILES)]
    assert (mode(own), mode(own / FILES[0])) == (0o700, 0o600)
    (note,) = notes
    assert note == (
        f"warning: {tmp_path / FOLDER} cannot be used (Not a directory): latencies are measured beside the work of "
        "other users (smnas doctor says what to do)"
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "make", [make_folder, make_pipe, make_link_to_a_file, make_second_name, make_dangling_link, make_loop]
)
def test_what_has_a_files_name_and_is_none_is_left_and_another_folder_serves(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    (tmp_path / FOLDER).mkdir()
    make(tmp_path / FOLDER / name)
    notes = list[str]()

    assert meet(tmp_path, notes)

    (note,) = notes
    assert note.startswith(f"warning: {tmp_path / FOLDER / name} cannot be used (")
    assert (tmp_path / f"{FOLDER}-{os.geteuid()}").is_dir()
    assert not (tmp_path / FOLDER / "nowhere").exists()


@as_root
@pytest.mark.parametrize("what", ["a closed folder", "a closed file", "a folder without files"])
def test_what_another_user_has_closed_is_left_and_another_folder_serves(everybodys: Path, what: str) -> None:
    with user(ONE):
        (everybodys / FOLDER).mkdir(mode=0o700 if what == "a closed folder" else 0o755)
        if what == "a closed file":
            (everybodys / FOLDER / FILES[0]).touch(mode=0o600)
    notes = list[str]()
    with user(OTHER):
        assert meet(everybodys, notes)

    (note,) = notes
    assert note.startswith(f"warning: {everybodys / FOLDER}")
    assert "cannot be used (Permission denied): latencies are measured beside the work of other users" in note
    assert (everybodys / f"{FOLDER}-{OTHER}").stat().st_uid == OTHER


@as_root
def test_a_file_of_another_user_that_can_be_read_serves(everybodys: Path) -> None:
    with user(ONE):
        (everybodys / FOLDER).mkdir(mode=0o755)
        for name in FILES:
            (everybodys / FOLDER / name).touch(mode=0o644)
    notes = list[str]()
    with user(OTHER):
        assert meet(everybodys, notes)
    assert notes == []


@as_root
def test_another_users_folder_is_not_ones_own(everybodys: Path) -> None:
    (everybodys / FOLDER).touch()
    with user(ONE, 0):
        (everybodys / f"{FOLDER}-{OTHER}").mkdir(mode=0o777)
    notes = list[str]()
    with user(OTHER):
        assert open_own([everybodys]) is None
        assert not meet(everybodys, notes)
    assert "cannot be used (Not a directory): latencies are measured beside the work of other users" in notes[0]


def test_it_lies_in_the_first_folder_where_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()

    place = open_shared([tmp_path / "file", tmp_path / "missing", tmp_path / "there"])
    place.close()

    assert place.folder == tmp_path / "there" / FOLDER
    with pytest.raises(FileNotFoundError):
        open_shared([])


@as_root
def test_where_nothing_can_be_written_the_next_folder_serves(everybodys: Path) -> None:
    (everybodys / "closed").mkdir(mode=0o755)
    (everybodys / "open").mkdir()
    (everybodys / "open").chmod(0o1777)
    with user(ONE):
        place = open_shared([everybodys / "closed", everybodys / "open"])
        place.close()
    assert place.folder == everybodys / "open" / FOLDER


def test_folders_for_temporary_files_are_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    (tmp_path / "file").touch()

    def first(**environment: str) -> Path:
        return temporary_folders(environment)[0]

    assert first(TMPDIR=str(tmp_path)) == tmp_path
    assert first(TMPDIR=str(tmp_path / "missing"), TMP=str(tmp_path)) == tmp_path
    default = first()
    for other in ("relative", "", str(tmp_path / "file"), str(tmp_path / "missing"), "a\0b", "/" + "x" * 300):
        assert first(TMPDIR=other) == default
    assert default == Path("/tmp")


def test_no_file_is_left_open_where_it_fails(tmp_path: Path) -> None:
    (tmp_path / FOLDER / FILES[1]).mkdir(parents=True)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(OSError, match="no regular file"):
        open_place(tmp_path / FOLDER)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
