from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.arch import encode
from smnas_optuna.config import DataSettings, load_settings
from smnas_optuna.data import load_splits
from smnas_optuna.engine.cpu_watch import CpuRecord
from smnas_optuna.errors import DataError, StudyError
from smnas_optuna.new_study.create import Created, create_study, note_load, probed_specs, refuse_existing
from smnas_optuna.new_study.facts import Asked
from smnas_optuna.new_study.summary import summary_lines
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.placement import Placement
from tests.data.formats.writers import write_coco_files

from .made_facts import make_device, make_facts


def create(study_dir: Path, data: Path, *, slower: float = 1.0, **others: Any) -> Created:
    return create_study(
        study_dir,
        data,
        Asked(hours=1.0),
        device="cpu",
        placement=Placement(workers=2),
        drop_empty_boxes=False,
        **{"listener": Listener(), "stop": StopRequest(), "look": lambda *_: make_device(slower=slower), **others},
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    write_coco_files(tmp_path / "data")
    return tmp_path / "data"


def test_a_new_study_can_be_loaded_with_its_data(data: Path, tmp_path: Path) -> None:
    created = create(tmp_path / "mine", data)

    settings = load_settings(tmp_path / "mine")
    assert created.path == tmp_path / "mine" / "study.toml"
    assert load_splits(data, settings.data).test is not None
    assert settings.search.hours == 1.0


def test_files_of_an_export_are_not_named_as_they_are_found_each_time(data: Path, tmp_path: Path) -> None:
    (data / "annotations").mkdir()
    for role in ("train", "val", "test"):
        (data / f"instances_{role}.json").rename(data / "annotations" / f"instances_{role}.json")

    create(tmp_path / "mine", data)

    settings = load_settings(tmp_path / "mine")
    assert settings.data == DataSettings(format="coco")
    assert load_splits(data, settings.data).test is not None
    assert "\ntrain = " not in (tmp_path / "mine" / "study.toml").read_text()


def test_the_first_search_decodes_no_image_again(data: Path, tmp_path: Path) -> None:
    create(tmp_path / "mine", data)
    decoded: list[int] = []

    settings = load_settings(tmp_path / "mine")
    load_splits(
        data,
        settings.data,
        cache=tmp_path / "mine" / "cache",
        on_progress=lambda done, _: decoded.append(done),
    )

    assert decoded == []


def test_a_study_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    create(tmp_path / "mine", data)
    before = (tmp_path / "mine" / "study.toml").read_bytes()

    with pytest.raises(StudyError) as caught:
        create(tmp_path / "mine", data, slower=50.0)

    assert caught.value.message == (
        f"{tmp_path / 'mine' / 'study.toml'}: there is a study already, and it is not overwritten"
    )
    assert caught.value.fix == "name another folder, or remove that file and everything that was searched with it"
    assert (tmp_path / "mine" / "study.toml").read_bytes() == before


def test_a_folder_that_is_there_may_become_a_study(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    assert create(tmp_path / "mine", data).path.is_file()


def test_what_cannot_be_a_study_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StudyError, match="file: is a file, not a folder"):
        refuse_existing(tmp_path / "file")
    with pytest.raises(StudyError, match="nowhere: there is no such folder"):
        refuse_existing(tmp_path / "nowhere" / "mine")


def test_data_that_cannot_be_used_leave_no_folder(data: Path, tmp_path: Path) -> None:
    (data / "images" / "a.png").write_bytes(b"none")

    with pytest.raises(DataError):
        create(tmp_path / "mine", data)

    assert not (tmp_path / "mine").exists()


def test_a_request_to_stop_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    class Stops(Listener):
        def step(self, phase: str, done: int, total: int) -> None:  # a listener's
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        create(tmp_path / "mine", data, listener=Stops())

    assert not (tmp_path / "mine").exists()


def test_the_summary_says_what_was_found_and_whether_the_hours_are_few(data: Path, tmp_path: Path) -> None:
    lines, slow = (
        summary_lines(create(tmp_path / name, data, slower=slower)) for name, slower in (("a", 0.1), ("b", 1000.0))
    )

    assert lines[0] == "data: COCO (instances_train.json and instances_val.json and instances_test.json are there)"
    assert lines[1].startswith("data: 3 training and 2 validation images, 1 test images; 3 classes, 3 objects for")
    assert lines[1].endswith("for training; all images are 24x20")
    assert "device: CPU, Made Up; 2 workers of 1 thread" in lines
    assert not any("the hours are few" in line for line in lines)
    assert slow[-1].startswith("note: the hours are few for this data")
    wanted = float(slow[-1].split("10 of stage 1 want about ")[1].split()[0].replace(",", ""))
    assert wanted > 3


def test_what_is_timed_spans_the_studies_in_reach() -> None:
    cpu, cuda = ([encode(spec) for spec in probed_specs(make_facts(), kind)] for kind in ("cpu", "cuda"))

    assert cpu == [
        "96x72.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
        "96x72.resnet50-w16.fpn-p2-p5-c64.rpn.fc-w256",
        "320x240.resnet50-w32.fpn-p2-p5-c128.rpn.fc-w512",
    ]
    assert [arch.split(".fpn")[0] for arch in cuda] == [
        "96x72.resnet18-w16",
        "96x72.resnet50-w64",
        "640x480.resnet50-w64",
    ]


def test_what_is_timed_on_a_cpu_stays_small_where_objects_are_minute() -> None:
    facts = make_facts(size=(4000, 3000), edges=(4.0, 6.0))

    assert {spec.input_size.long for spec in probed_specs(facts, "cpu")} == {320}
    assert {spec.input_size.long for spec in probed_specs(facts, "cuda")} == {1344}


@pytest.mark.parametrize(("percent", "told"), [(0, False), (24, False), (25, True), (None, False)])
def test_a_busy_machine_is_told(percent: int | None, told: bool) -> None:
    class Notes(Listener):
        def note(self, text: str) -> None:
            notes.append(text)

    notes = list[str]()
    note_load(None if percent is None else CpuRecord(foreign_load_percent=percent), Notes())

    assert len(notes) == told
    assert not told or notes[0].startswith("the CPUs computed for others 25 % of the time: all times are too long")
