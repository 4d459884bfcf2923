from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.verify.results import Results, SeedRun, read_results

ARCH = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"
TEST = {"content": None, "images": 0}
ABOUT: dict[str, Any] = {"data": {"content": "0f", "test": TEST}, "recipe": {}, "device": {"kind": "cpu"}}
RUN = SeedRun(
    arch=ARCH,
    number=1,
    seed=17,
    epochs=4,
    metrics={"ap": 0.25, "ap_large": None},
    test_metrics=None,
    failed=None,
    seconds=1.5,
    versions={"torch": "2.11"},
)


def test_what_is_added_is_there_at_once_for_whoever_reads_next(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    diverged = dataclasses.replace(RUN, number=2, metrics=None, failed="diverged")
    results = Results.load(file, ABOUT)
    for count, run in enumerate((RUN, diverged), start=1):
        results.add(run)

        assert list(Results.load(file, ABOUT).runs.values()) == [RUN, diverged][:count]
    assert list(results.runs) == [(ARCH, 1, 4), (ARCH, 2, 4)]
    assert [run.ap for run in results.runs.values()] == [0.25, None]
    assert [each for each in tmp_path.iterdir() if each.suffix != ".lock"] == [file]


def test_what_several_workers_add_is_all_kept(tmp_path: Path) -> None:
    file, other = tmp_path / "results.json", dataclasses.replace(RUN, number=2)
    first, second = Results.load(file, ABOUT), Results.load(file, ABOUT)

    first.add(RUN)
    second.add(other)

    assert first.runs.keys() == {RUN.key}
    first.refresh()
    assert list(first.runs.values()) == list(second.runs.values()) == [RUN, other]


def test_no_file_is_no_results(tmp_path: Path) -> None:
    assert Results.load(tmp_path / "results.json", ABOUT).runs == {}


def test_results_of_other_data_are_refused_with_both_values(tmp_path: Path) -> None:
    file = tmp_path / "verify" / "results.json"
    file.parent.mkdir()
    Results.load(file, ABOUT).add(RUN)

    with pytest.raises(StudyError) as caught:
        Results.load(file, {**ABOUT, "data": {"content": "1e", "test": TEST}, "device": {"kind": "cuda"}})

    assert str(caught.value) == (
        f"{file}: was made with other data and device; the numbers do not compare\n"
        "  first: data.content was 0f, is 1e\n"
        "         device.kind was cpu, is cuda\n"
        f"  fix: go back to what it was, or move {file.parent} away to begin again"
    )
    assert Results.load(file, ABOUT).runs, "they are still there"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"about": {}}', '{"about": {}, "runs": [{"arch": "x"}]}', "[" * 100_000],
    ids=["empty", "half", "no object", "no runs", "half a run", "deep"],
)
def test_a_file_that_holds_something_else_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)

    with pytest.raises(StudyError) as caught:
        Results.load(file, ABOUT)

    assert caught.value.message.startswith(f"{file}: holds no results of smnas verify (")
    assert caught.value.fix == "move it away; what it held is then trained again"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("arch", ["../../x", "", 3, None, ARCH + " "]),
        ("number", [0, -1, "1", 1.0, True, 2**70]),
        ("epochs", [0, "2", None]),
        ("seed", [-1, "x"]),
        ("metrics", ["x", [], {}, {"ap": "x"}, {"ap": 1.5}, {"ap": -1}, {"ap": 0.5, "ar1": []}]),
        ("test_metrics", ["x", {"ap_large": 0.5}, {"ap": 10**400}]),
        ("failed", [3, "diverged"]),
        ("seconds", ["x", -1, None]),
        ("versions", [None, {"torch": 2}, {"torch": "\x1b[2J"}]),
    ],
)
def test_a_training_that_is_not_as_it_is_stored_is_refused(name: str, values: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    for value in values:
        stored = {**dataclasses.asdict(RUN), name: value}
        file.write_text(json.dumps({"about": ABOUT, "runs": [dataclasses.asdict(RUN), stored]}))

        with pytest.raises(StudyError) as caught:
            read_results(file)

        said = "metrics" if (name, value) == ("failed", "diverged") else name
        assert f"(ValueError: {said} of a training is not as it is stored)" in caught.value.message
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("place", ["data", "recipe", "device", "data.test", "data.val", "data.test.images"])
@pytest.mark.parametrize("value", [3, "x", [], None, {"content": {}}], ids=str)
def test_what_results_depend_on_is_as_it_is_stored_or_refused(place: str, value: Any, tmp_path: Path) -> None:
    about = json.loads(json.dumps({**ABOUT, "data": {**ABOUT["data"], "val": {"images": 3, "boxes": 9}}}))
    file, inner = tmp_path / "results.json", about
    *parts, last = place.split(".")
    for part in parts:
        inner = inner[part]
    inner[last] = value
    file.write_text(json.dumps({"about": about, "runs": []}))
    good = (place in ("recipe", "data.val") and value == {"content": {}}) or (place, value) == ("data.test.images", 3)
    if good:
        assert read_results(file) is not None
        return

    with pytest.raises(StudyError, match="about is not as it is stored"):
        read_results(file)


def test_a_pipe_in_the_files_place_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.json")

    with pytest.raises(StudyError, match="it is a pipe or a device, not a regular file"):
        Results.load(tmp_path / "results.json", ABOUT)


def test_the_file_is_json_for_others_to_read(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    Results.load(file, ABOUT).add(RUN)

    assert json.loads(file.read_text()) == {"about": ABOUT, "runs": [dataclasses.asdict(RUN)]}


def test_a_training_under_an_older_spelling_is_one_of_the_architecture(tmp_path: Path) -> None:
    file, old = tmp_path / "results.json", "32x32.basicblock-w4-conv7-11-21-21-21.fpn-p3-p5-c8.none.retina"
    Results.load(file, ABOUT).add(dataclasses.replace(RUN, arch=old))

    assert list(Results.load(file, ABOUT).runs.values()) == [RUN]


@pytest.mark.parametrize("arch", [3, None, ["a"]])
def test_an_architecture_that_is_no_text_is_refused(tmp_path: Path, arch: object) -> None:
    file = tmp_path / "results.json"
    Results.load(file, ABOUT).add(RUN)
    stored = json.loads(file.read_text())
    stored["runs"][0]["arch"] = arch
    file.write_text(json.dumps(stored))

    with pytest.raises(StudyError, match=r"holds no results of smnas verify"):
        Results.load(file, ABOUT)
