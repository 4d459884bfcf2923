"""Times of reference detectors that a machine keeps for all studies."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.study.attributes import FINGERPRINT, REFERENCE_MS
from smnas_optuna.study.machine import CACHE, LONGEST_FILE, reference_key, remember, remembered
from smnas_optuna.study.scale import scale_of

PRINT: dict[str, Any] = {
    "data": {"content": "c0ffee", "classes": ["a"]},
    "recipe": {
        "train": {"epochs": 3},
        "detector": {"norm": "gn"},
        "latency": {"reference": "r", "runtime": "auto", "images": 4},
    },
    "device": {"kind": "cpu", "threads": 1},
}
"""A fingerprint of a study."""


def with_(path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(PRINT)
    *parts, last = path.split(".")
    place = changed
    for part in parts:
        place = place[part]
    place[last] = value
    return changed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.content", "decaf"),
        ("recipe.detector.norm", "bn"),
        ("recipe.latency.reference", "other"),
        ("recipe.latency.runtime", "eager"),
        ("device.threads", 2),
    ],
)
def test_what_the_time_depends_on_is_in_the_key(path: str, value: object) -> None:
    assert reference_key(with_(path, value), {}) != reference_key(PRINT, {})


@pytest.mark.parametrize(("path", "value"), [("recipe.train.epochs", 9), ("recipe.latency.images", 9)])
def test_what_it_does_not_depend_on_is_not(path: str, value: object) -> None:
    assert reference_key(with_(path, value), {}) == reference_key(PRINT, {})


@pytest.mark.parametrize("stored", [{}, {"recipe": 3}, {"recipe": {"latency": []}, "data": None}])
def test_a_fingerprint_without_the_parts_has_no_key(stored: Any) -> None:
    assert reference_key(stored, {}) is None
    assert remembered(None) == []


@pytest.mark.usefixtures("cache")
def test_what_is_kept_is_read() -> None:
    remember("k", 7.654321987, alone=True)
    remember("k", 12.0, alone=False)

    assert remembered("k") == [(7.654321987, True), (12.0, False)]
    assert remembered("other") == []


def test_lines_that_are_no_times_are_left_out(cache: Path) -> None:
    remember("k", 5.0, alone=True)
    with (cache / "reference_times" / "k.txt").open("ab") as file:
        file.write(b"nan alone\n-1 alone\n0 alone\n1e999 alone\nx\n\n6 alone")

    assert remembered("k") == [(5.0, True), (6.0, True)]


def test_a_file_does_not_grow_for_ever(cache: Path) -> None:
    remember("k", 5.0, alone=True)
    path = cache / "reference_times" / "k.txt"
    path.write_text("5 alone\n" * (LONGEST_FILE // 8))
    remember("k", 4.0, alone=True)

    assert path.stat().st_size == LONGEST_FILE


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "bytes"])
def test_what_is_no_file_of_times_is_neither_read_nor_written(cache: Path, kind: str, tmp_path: Path) -> None:
    path, theirs = cache / "reference_times" / "k.txt", tmp_path / "theirs"
    path.parent.mkdir(parents=True)
    theirs.write_text("theirs\n")
    if kind == "link":
        path.symlink_to(theirs)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff" * 99)
    remember("k", 5.0, alone=True)

    assert remembered("k") == []
    assert theirs.read_text() == "theirs\n"


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE, str(tmp_path / "file" / "cache"))
    remember("k", 5.0, alone=True)

    assert remembered("k") == []


@pytest.mark.usefixtures("cache")
def test_studies_of_a_machine_share_the_unit() -> None:
    key = reference_key(PRINT, {})
    assert key is not None
    for time_ms in (9.7, 9.8, 7.4):
        remember(key, time_ms, alone=True)
    slow = {FINGERPRINT: PRINT, REFERENCE_MS: 9.7}, [(9.7, True), (9.8, True)]
    other = {FINGERPRINT: with_("device.threads", 2), REFERENCE_MS: 9.7}, [(9.7, True)]

    unit, alone = scale_of([slow]).unit, scale_of([other]).unit

    assert unit is not None
    assert alone is not None
    assert (unit.ms, unit.num_measurements) == (7.4, 3)  # its own two, which the machine keeps too, count once
    assert scale_of([slow]).of_study(slow[0]).factor == pytest.approx(7.4 / 9.7)
    assert alone.ms == 9.7
