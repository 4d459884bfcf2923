from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.engine.durable import write_durably
from smnas_optuna.errors import StudyError
from smnas_optuna.evaluation import kept
from smnas_optuna.evaluation.kept import DETECTIONS_FILE, KEY_FILE, Rows, check_output, kept_or_new

KEY: dict[str, Any] = {"weights_sha256": "f00", "data": "abc", "constants": {"nms_iou": 0.5}}
FOUND: Rows = [{"image_id": 3, "category_id": 7, "bbox": [1.5, 0.1, 2.0, 3.0], "score": 0.30000001192092896}]


def never() -> Rows:
    raise AssertionError("detected again")


def test_what_is_kept_is_not_detected_again(tmp_path: Path) -> None:
    assert kept_or_new(tmp_path, KEY, lambda: FOUND) == (FOUND, False)
    assert kept_or_new(tmp_path, KEY, never) == (FOUND, True)
    assert json.loads((tmp_path / DETECTIONS_FILE).read_text()) == FOUND
    assert json.loads((tmp_path / KEY_FILE).read_text()).items() > KEY.items()


@pytest.mark.parametrize(
    "change", [{"weights_sha256": "f01"}, {"data": "abd"}, {"constants": {"nms_iou": 0.6}}, {"max_detections": 200}]
)
def test_other_weights_data_or_limits_are_detected_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    kept_or_new(tmp_path, KEY, lambda: FOUND)

    assert kept_or_new(tmp_path, KEY | change, lambda: []) == ([], False)
    assert kept_or_new(tmp_path, KEY | change, never) == ([], True)


def _cut(folder: Path) -> None:
    path = folder / DETECTIONS_FILE
    path.write_bytes(path.read_bytes()[:-3])


def _other(folder: Path) -> None:
    (folder / DETECTIONS_FILE).write_text("[]\n")  # as after a kill before the key was written


def _link(folder: Path) -> None:
    (folder / KEY_FILE).rename(folder / "elsewhere.json")
    (folder / KEY_FILE).symlink_to("elsewhere.json")


@pytest.mark.parametrize(
    "damage",
    [_cut, _other, _link, lambda folder: (folder / KEY_FILE).write_text("{")],
    ids=["cut", "other", "link", "no JSON"],
)
def test_what_is_not_whole_is_detected_anew(tmp_path: Path, damage: Any) -> None:
    kept_or_new(tmp_path, KEY, lambda: FOUND)
    damage(tmp_path)

    assert kept_or_new(tmp_path, KEY, lambda: FOUND) == (FOUND, False)
    assert kept_or_new(tmp_path, KEY, never) == (FOUND, True)


def test_a_kill_before_the_hash_is_written_leaves_what_is_known_to_be_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, content: bytes) -> None:
        write_durably(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(kept, "write_durably", killed)
    with pytest.raises(KeyboardInterrupt):
        kept_or_new(tmp_path, KEY, lambda: FOUND)
    monkeypatch.undo()

    check_output(tmp_path)
    assert kept_or_new(tmp_path, KEY, lambda: FOUND) == (FOUND, False)


def test_a_disk_that_takes_nothing_is_one_message(tmp_path: Path) -> None:
    (tmp_path / DETECTIONS_FILE).mkdir()

    with pytest.raises(StudyError, match=r"the detections cannot be written: .*\n  fix: make room on the disk"):
        kept_or_new(tmp_path, KEY, lambda: FOUND)
