from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smnas_optuna.workers.lock_file import LockFile, Wait, say_once
from smnas_optuna.workers.lock_holders import UNSEEN, Holder
from smnas_optuna.workers.meeting_place import FOLDER, open_shared

from .lock_processes import FOREIGN, MEASURES, holding

PATIENCE_SECONDS = 6.0
"""It speaks after half a second. A test that looks after one is long before its end, on a busy machine, too."""


@contextmanager
def turn(folder: Path) -> Iterator[LockFile]:
    place = open_shared([folder])
    try:
        yield place.turn
    finally:
        place.close()


@pytest.mark.parametrize(
    ("code", "stopped", "said"),
    [
        (MEASURES, True, "which is stopped and holds {}; going on without it after 6 s"),
        (MEASURES, False, "which holds {}; going on without it after 50 s"),
        (FOREIGN, False, "which holds {}; going on without it after 50 s"),
    ],
    ids=["stopped", "of another search", "foreign"],
)
def test_a_wait_says_once_whom_it_is_for(tmp_path: Path, code: str, stopped: bool, said: str) -> None:
    notes = list[str]()
    with turn(tmp_path) as file, holding(code, tmp_path, stopped=stopped) as process:
        for told in range(2):
            wait = Wait(stopped_seconds=PATIENCE_SECONDS, running_seconds=50.0, note=notes.append)
            assert not wait.is_over(file)
            assert len(notes) == told, "not at once"
            time.sleep(2 * PATIENCE_SECONDS / 12)
            assert not wait.is_over(file)

    (note,) = notes
    assert note.startswith(f"waiting for process {process.pid} of ")
    assert note.endswith(said.format(tmp_path / FOLDER / "turn.lock"))
    assert len(note) < 400


def test_those_that_were_waited_for_in_vain_are_waited_for_again_once_they_gave_the_lock_back(tmp_path: Path) -> None:
    with turn(tmp_path) as file:
        with holding(MEASURES, tmp_path):
            assert not file.is_held_in_vain()
            file.lose_patience(set(file.holders()))
            assert file.is_held_in_vain()
            assert Wait(stopped_seconds=9.0, running_seconds=9.0, note=lambda _: None).is_over(file)
            with turn(tmp_path) as again:
                assert again.is_held_in_vain(), "known to the whole process"
        assert file.is_free()
        with holding(MEASURES, tmp_path):
            assert not file.is_held_in_vain()


def test_a_holder_that_cannot_be_seen_is_waited_for_in_vain_until_the_lock_is_free(tmp_path: Path) -> None:
    class Blind(LockFile):
        """Of a process in another container."""

        def holders(self) -> frozenset[Holder]:
            return frozenset({UNSEEN})

    notes = list[str]()
    with turn(tmp_path) as file, holding(MEASURES, tmp_path) as process:
        blind = Blind(os.dup(file.descriptor), file.path)
        wait = Wait(stopped_seconds=0.001, running_seconds=0.001, note=notes.append)
        while not wait.is_over(blind):
            time.sleep(0.01)
        assert blind.is_held_in_vain()
        process.kill()
        process.wait()
        assert blind.is_free()
        assert not blind.is_held_in_vain()

    assert notes[-1] == (
        f"warning: going on without a process that cannot be seen from here, which holds {file.path}; latencies "
        "measured meanwhile are marked (alone = false)"
    )


def test_a_line_is_said_once(tmp_path: Path) -> None:
    notes = list[str]()
    for line in ("one", "two", "one"):
        say_once(notes.append, f"{line} {tmp_path}")
    assert notes == [f"one {tmp_path}", f"two {tmp_path}"]
