from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from PIL import Image

from smnas_optuna.config import load_settings
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import load_data, prepare
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.fingerprint import differences
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock


class Loads(Listener):
    """Hears whether anything was loaded."""

    loads = 0

    def step(self, phase: str, done: int, total: int) -> None:
        self.loads += phase == "load"


class Impatient(StopRequest):
    """Stops when it is asked for the fifth time."""

    asked = 0

    def check(self) -> None:
        self.asked += 1
        if self.asked == 5:
            raise Interrupted(15)


def test_no_data_is_loaded_while_somebody_measures(study_dir: Path) -> None:
    folder, listener = StudyFolder(study_dir), Loads()

    with MeasurementLock().exclusive() as alone, pytest.raises(Interrupted):
        prepare(folder, listener=listener, stop=Impatient(), device="cpu")

    assert alone
    assert listener.loads == 0
    prepare(folder, listener=listener, stop=StopRequest(), device="cpu")
    assert listener.loads > 0


def test_a_session_has_the_recipe_of_its_stage_and_knows_that_of_the_other(drawn_dir: Path) -> None:
    text = (drawn_dir / "study.toml").read_text()
    (drawn_dir / "study.toml").write_text(f"{text}\n[modular.train]\nepochs = 3\nbatch_size = 4\n")
    folder = StudyFolder(drawn_dir)
    studies = [folder.create(name, RandomSampler()) for name in (STRUCTURAL, "modular/32x32.resnet18-w4.c4.rpn.fc")]

    first = prepare(folder, listener=Listener(), stop=StopRequest(), device="cpu")
    second = prepare(folder, listener=Listener(), stop=StopRequest(), device="cpu", stage="modular")

    recipes = [(each.settings.train.epochs, each.settings.train.batch_size) for each in (first, second)]
    assert recipes == [(2, 8), (3, 4)]
    for session, own in ((first, studies[0]), (second, studies[1])):
        assert session.depends_on_of(own) == session.depends_on
        assert [session.depends_on_of(study)["recipe"]["train"]["epochs"] for study in studies] == [2, 3]
    assert differences(first.depends_on, second.depends_on).keys() == {"recipe.train.epochs", "recipe.train.batch_size"}


def test_without_a_recipe_of_its_own_stage_2_has_the_fingerprint_of_stage_1(drawn_dir: Path) -> None:
    folder = StudyFolder(drawn_dir)
    first = prepare(folder, listener=Listener(), stop=StopRequest(), device="cpu")
    second = prepare(folder, listener=Listener(), stop=StopRequest(), device="cpu", stage="modular")

    assert first.depends_on == second.depends_on


def begun(folder: StudyFolder, fingerprint: dict[str, Any]) -> None:
    study = folder.create(STRUCTURAL, sampler=RandomSampler())
    study.set_user_attr(FINGERPRINT, fingerprint)


def test_a_study_that_began_in_torch_goes_on_in_torch(drawn_dir: Path) -> None:
    file, folder = drawn_dir / "study.toml", StudyFolder(drawn_dir)
    file.write_text(file.read_text().replace('runtime = "eager"\n', ""))

    def now() -> Testbed:
        return prepare(folder, listener=Listener(), stop=StopRequest(), device="cpu").testbed

    new = now()
    in_torch = {name: value for name, value in new.device_description.items() if name != "runtime"}
    begun(folder, {**new.fingerprint, "device": in_torch})
    old = now()

    assert (new.runtime, new.device_description["runtime"]) == ("onnxruntime", "onnxruntime")
    assert old.runtime == "eager"
    assert not differences({"device": in_torch}, {"device": old.device_description})
    folder.load(STRUCTURAL).set_user_attr(FINGERPRINT, new.fingerprint)
    assert now().runtime == "onnxruntime"


def _write_videos(root: Path) -> None:
    names = [f"video{video}_{frame:03d}.png" for video in range(5) for frame in range(4)]
    (root / "images").mkdir(parents=True)
    for seed, name in enumerate(names):
        noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(noise).save(root / "images" / name)
    document = {
        "images": [{"id": n, "file_name": name, "width": 9, "height": 9} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 5, 5]} for n in range(len(names))],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "instances_train.json").write_text(json.dumps(document))


def test_a_study_that_began_before_there_were_groups_keeps_its_split(tmp_path: Path) -> None:
    study_dir, data = tmp_path / "study", tmp_path / "data"
    study_dir.mkdir()
    _write_videos(data)
    needed = '[latency]\nreference = "64x64.resnet18-w8.c4.rpn.fc"\n'
    (study_dir / "study.toml").write_text(f"{needed}[data]\ngroups = false\n")
    folder = StudyFolder(study_dir)
    plain = load_data(folder, data, load_settings(study_dir), lambda *_: None)[1].content_hash
    (study_dir / "study.toml").write_text(needed)
    settings = load_settings(study_dir)
    grouped = load_data(folder, data, settings, lambda *_: None)[1].content_hash
    assert grouped != plain

    study = folder.create(STRUCTURAL, RandomSampler())
    assert load_data(folder, data, settings, lambda *_: None)[1].content_hash == grouped
    study.set_user_attr(FINGERPRINT, {"data": {"content": plain}})
    assert load_data(folder, data, settings, lambda *_: None)[1].content_hash == plain
    study.set_user_attr(FINGERPRINT, {"data": {"content": grouped}})
    assert load_data(folder, data, settings, lambda *_: None)[1].content_hash == grouped
