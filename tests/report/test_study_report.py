from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image

from smnas_optuna.config import load_settings
from smnas_optuna.engine.checkpoint import save_weights
from smnas_optuna.errors import DataError, StudyError
from smnas_optuna.report.study_report import StudyReport
from smnas_optuna.session.prepare import load_data
from smnas_optuna.session.samples import Found, choose_images, keep_found
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

from ..api.api_folders import description_of
from ..conftest import TINY_STUDY
from ..models.tiny_detectors import build, spread_predictions
from .report_studies import DEVICE, add_trial, fill

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
SLOW = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.cascade2-w32"
HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "\u202e\"'&{{evil}}"]
FILE_NAME = "</svg><script>alert(3)</script>\u202e\"'.png".replace("/", "\u2215")


def make_study(folder: Path, *, classes: list[str]) -> StudyFolder:
    """A study with two front members on data with hostile names; weights of the first are kept."""
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(re.sub(r"\[data.shapes\]\n(\w.*\n)+", "", TINY_STUDY))
    make_data(folder / "data", classes)
    study = StudyFolder(folder).create("structural", optuna.samplers.RandomSampler(seed=0))
    study.set_user_attr("fingerprint", {"data": {"classes": classes}, "device": DEVICE})
    done = TrialState.COMPLETE
    add_trial(study, (10.0, 0.2), done, arch=ARCH, baseline=True, seconds={"train": 60.0}, metrics={"ap": 0.2})
    add_trial(study, (20.0, 0.3), done, arch=SLOW, num_params=1000, multiply_adds=10**6)
    add_trial(study, None, TrialState.FAIL, arch=SLOW, reason=f"{HOSTILE[0]}: not finite")
    detector = build(ARCH)
    spread_predictions(detector)
    save_weights(folder / "runs" / ARCH, detector, {**description_of(ARCH), "classes": classes})
    return StudyFolder(folder)


def make_data(folder: Path, classes: list[str]) -> None:
    (folder / "images").mkdir(parents=True)
    for split, names in (("train", ["a.png", "b.png"]), ("val", ["c.png", FILE_NAME])):
        images, boxes = [], []
        for number, name in enumerate(names, start=1):
            pixels = np.random.default_rng([number, len(split)]).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name)
            images.append({"id": number, "file_name": name, "width": 64, "height": 48})
            boxes += [
                {"id": 10 * number + label, "image_id": number, "category_id": label, "bbox": [5 * label, 5, 20, 20]}
                for label in (1, 3, 7)
            ]
        categories = [{"id": number, "name": name} for number, name in zip((1, 3, 7), classes, strict=True)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))


def test_what_the_search_found_is_shown_without_weights(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "cells", classes=["a", "b", "c"])
    _, splits = load_data(folder, None, load_settings(folder.path), lambda *_: None)
    box = Found(boxes=np.array([[5.0, 5.0, 25.0, 25.0]]), labels=np.ones(1, np.int64), scores=np.ones(1))
    keep_found(folder.make_run(SLOW), splits.content_hash, choose_images(splits.val), {1: box, 2: box})

    text = StudyReport(folder.path).write().read_text(encoding="utf-8")

    assert text.count('href="#image-') == 4  # two detectors, of which one has weights
    assert text.count("1 of 3 found, 0 false</figcaption>") == 2


def test_the_page_shows_images_with_detections_and_all_names_as_text(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "<b>cells", classes=HOSTILE)

    path = StudyReport(folder.path).write()

    text = path.read_text(encoding="utf-8")
    assert path == folder.report / "report.html"
    assert [file.name for file in folder.report.iterdir()] == ["report.html"]
    assert text.count("<script") == 1  # ours
    assert text.count("</script") == 1
    assert "<img" not in text
    assert "<b>cells" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
    assert "alert(3)" in text
    assert "\u202e" not in text
    assert text.count('href="#image-') == 2  # of the detector whose weights are kept
    assert "There are no pictures: the weights of this detector are not kept." in text


def test_nothing_on_the_page_comes_from_elsewhere(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "cells", classes=["cat", "dog", "bird"])

    text = StudyReport(folder.path).write().read_text(encoding="utf-8")

    assert not re.search(r"""(?:src|href)="(?!#|data:image/jpeg;base64,)""", text)
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_without_data_the_page_says_so_and_has_the_rest(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "cells", classes=["cat", "dog", "bird"])
    (folder.path / "data").rename(tmp_path / "gone")

    text = StudyReport(folder.path).write().read_text(encoding="utf-8")

    assert "There are no pictures, as the data cannot be used: " in text
    assert "two fully connected layers of 32" in text  # from the number of classes that the study knows
    with pytest.raises(DataError, match="there is no such folder"):
        StudyReport(folder.path, tmp_path / "nothing").write()


def test_weights_of_other_classes_detect_nothing(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "cells", classes=["cat", "dog", "bird"])
    for split in ("train", "val"):
        file = folder.path / "data" / f"instances_{split}.json"
        file.write_text(file.read_text().replace('"bird"', '"fish"'))

    text = StudyReport(folder.path).write().read_text(encoding="utf-8")

    assert "the weights know other classes than the data have now" in text


def test_a_study_of_an_old_version_without_settings_has_a_page(tmp_path: Path) -> None:
    fill(StudyFolder(tmp_path).create("structural", optuna.samplers.RandomSampler(seed=0)))

    text = StudyReport(tmp_path).write().read_text(encoding="utf-8")

    assert "There are no pictures: study.toml cannot be read." in text
    assert text.count('<article id="arch=') == 4


def test_a_study_that_has_trained_nothing_has_a_page(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path).create("structural", optuna.samplers.RandomSampler(seed=0))
    add_trial(study, None, TrialState.RUNNING, arch=ARCH)

    text = StudyReport(tmp_path).write().read_text(encoding="utf-8")

    assert "No architecture is trained yet." in text
    assert 'href="#detectors"' not in text


def test_a_study_that_has_not_begun_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(TINY_STUDY)

    with pytest.raises(StudyError, match="there is no structural study yet"):
        StudyReport(tmp_path).write()


def test_a_watched_page_is_written_after_each_trial_and_at_last_reloads_itself_no_more(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path).create("structural", optuna.samplers.RandomSampler(seed=0))
    fill(study)
    stop, pages = StopRequest(), list[str]()

    def written(path: Path) -> None:
        pages.append(path.read_text(encoding="utf-8"))
        if len(pages) == 1:
            add_trial(study, (50.0, 0.4), TrialState.COMPLETE, arch=ARCH)
        if len(pages) == 2:
            stop.ask(signal.SIGINT)

    StudyReport(tmp_path, stop=stop).watch(written, seconds=0.01)

    assert ['id="reload"' in page for page in pages] == [True, True, False]
    assert [page.count('<article id="arch=') for page in pages] == [4, 5, 5]


def test_a_page_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = make_study(tmp_path / "cells", classes=["cat", "dog", "bird"])
    folder.report.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StudyError, match="this is a link to"):
        StudyReport(folder.path).write()
    assert list((tmp_path / "elsewhere").iterdir()) == []
