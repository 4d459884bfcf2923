from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.workers.locks import Lock, acquire, check_locks, file_system_of, is_held

MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
35 21 0:31 / /data rw,relatime shared:7 master:1 - nfs4 server:/export rw,vers=4.2
36 35 254:1 / /data/my\\040disk rw - xfs /dev/vdb rw
a line of another kind
"""


def test_locks_of_this_disk_work_and_leave_nothing(tmp_path: Path) -> None:
    check_locks(tmp_path)

    assert list(tmp_path.iterdir()) == []


def refuse(number: int) -> Lock:
    def lock(file: int) -> None:
        raise OSError(number, os.strerror(number))

    return lock


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (refuse(errno.ENOLCK), "flock is refused (No locks available)"),
        (refuse(errno.ENOSYS), "flock is refused (Function not implemented)"),
        (refuse(errno.EOPNOTSUPP), "flock is refused (Operation not supported)"),
        (lambda _: None, "flock is given to two at a time"),
        (lambda file: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB), "flock is given to two at a time"),
    ],
    ids=["no daemon", "no system call", "not supported", "no effect", "shared"],
)
def test_a_folder_whose_files_cannot_be_locked_is_refused(tmp_path: Path, lock: Lock, problem: str) -> None:
    with pytest.raises(StudyError) as caught:
        check_locks(tmp_path, {"flock": lock})

    assert str(caught.value) == (
        f"{tmp_path}: files cannot be locked here: {problem}\n  fix: put the study folder on a disk whose locks "
        "work: a local one, or NFS 4 with its lock service"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_database_file_on_the_disk_of_another_machine_is_refused_and_one_on_a_server_is_not(tmp_path: Path) -> None:
    mounts = f"{MOUNTS}40 21 0:33 / {tmp_path} rw - nfs4 server:/home rw\n"

    with pytest.raises(StudyError) as caught:
        check_locks(tmp_path, mounts=mounts)
    assert str(caught.value).startswith(
        f"{tmp_path / 'study.db'}: lies on a network file system (nfs4), where SQLite's locks are not safe\n  fix: put"
    )
    with pytest.raises(StudyError, match="lies on a network file system"):
        check_locks(tmp_path, mounts=mounts, storage=f"sqlite:///{tmp_path}/other.db")
    check_locks(tmp_path, mounts=mounts, storage="postgresql+psycopg://me@host/db")  # it is about to be there
    (tmp_path / "storage.url").write_text("postgresql+psycopg://me@host/db")
    check_locks(tmp_path, mounts=mounts)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/me", "ext4"), ("/data", "nfs4"), ("/data/x", "nfs4"), ("/data/my disk/x", "xfs"), ("/database", "ext4")],
)
def test_the_innermost_mount_is_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind
    assert file_system_of(Path(folder), "") is None


def test_a_lock_is_held_until_its_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "x.lock"
    assert not is_held(file)
    code = (
        "import sys; from pathlib import Path; from smnas_optuna.workers.locks import acquire\n"
        "lock = acquire(Path(sys.argv[1])); print(lock is not None, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"

        assert is_held(file)
        assert acquire(file) is None
        process.communicate("")
    assert not is_held(file)


def test_a_link_or_a_pipe_is_no_lock_and_what_a_link_leads_to_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    os.mkfifo(tmp_path / "pipe")

    for name in ("link", "pipe"):
        with pytest.raises(StudyError, match=f"{name}: is no regular file, so that it cannot be a lock"):
            acquire(tmp_path / name)
    assert is_held(tmp_path / "link"), "nobody can tell"
    assert (tmp_path / "theirs").read_text() == "theirs"
