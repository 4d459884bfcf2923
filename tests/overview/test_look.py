from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings, StudySettings
from smnas_optuna.config.settings import LatencySettings
from smnas_optuna.data import Splits
from smnas_optuna.overview.look import look, read_as

from .made import dataset

SETTINGS = StudySettings(latency=LatencySettings(reference="320x240.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"))


@pytest.mark.parametrize(
    ("file", "settings", "text"),
    [
        ("instances_train.json", DataSettings(), "COCO, as instances_train.json is there"),
        ("data.yaml", DataSettings(), "YOLO, as data.yaml is there"),
        ("data.yaml", DataSettings(format="voc"), "Pascal VOC, as format in [data] of study.toml says"),
    ],
)
def test_the_format_and_what_tells_it(file: str, settings: DataSettings, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("names: [pawn]\ntrain: images\n")

    assert read_as(tmp_path, settings) == text


def test_sizes_are_those_of_all_splits_at_each_input_size(tmp_path: Path) -> None:
    train = dataset(tmp_path, [[(0, 0, 9, 9)]], size=(64, 64))
    val = dataset(tmp_path, [[(0, 0, 16, 16)], []], size=(64, 64))
    overview = look("mine", tmp_path, Splits(train=train, val=val, content_hash=""), SETTINGS)

    assert [each.name for each in overview.sizes] == list(SETTINGS.space.structural.input_sizes)
    first = overview.sizes[0]
    assert (first.name, first.scale, first.median) == ("512x512", 8, 8 * 12.5)
    assert overview.all_objects.per_image.tolist() == [1, 1, 0]
    assert overview.rare == [1]
    assert [finding.what for finding in overview.findings] == ["Images without objects"]


def test_notes_are_those_of_the_check_without_the_format(tmp_path: Path) -> None:
    (tmp_path / "instances_train.json").write_text("{}")
    said = f"read as {read_as(tmp_path, SETTINGS.data)}"
    train = dataset(tmp_path, [[(0, 0, 9, 9)]], notes=[said, "1 box is clipped"])
    overview = look("mine", tmp_path, Splits(train=train, val=train, content_hash=""), SETTINGS)

    assert overview.notes[:2] == ["training: 1 box is clipped", "validation: 1 box is clipped"]
    assert overview.notes[2:] == overview.advice
    assert overview.advice
