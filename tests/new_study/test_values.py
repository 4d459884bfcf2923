from __future__ import annotations

from dataclasses import replace
from itertools import cycle, product
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings, StudySettings, load_settings
from smnas_optuna.new_study.facts import Asked, DataFacts, DeviceFacts
from smnas_optuna.new_study.text import study_text
from smnas_optuna.new_study.values import choose_values
from smnas_optuna.search_space import baselines_of

from .made_facts import make_device, make_facts

DATA = {
    "cells": make_facts(),
    "tiny objects": make_facts(edges=(6.0, 14.0), per_image=60),
    "large objects": make_facts(edges=(300.0, 450.0), per_image=1),
    "huge images": make_facts(size=(6000, 4000), edges=(100.0, 900.0)),
    "small images": make_facts(size=(64, 64), edges=(10.0, 40.0)),
    "many images": make_facts(num_images=3000, per_image=2, num_train=120_000, num_val=5_000),
    "few images": make_facts(num_images=4),
    "strips": make_facts(size=(2000, 150), edges=(20.0, 80.0)),
}
DEVICES = {
    "cpu": make_device(),
    "slow cpu": make_device(slower=30.0),
    "gpu": make_device("cuda", workers=1, fixed_s=0.001),
    "gpus": make_device("cuda", workers=8, slower=0.1, fixed_s=0.001),
}


def written(folder: Path, facts: DataFacts, device: DeviceFacts, asked: Asked) -> StudySettings:
    values = choose_values(facts, device, asked)
    (folder / "study.toml").write_text(study_text("mine", values, facts, device, asked))
    return load_settings(folder)


HOURS = (0.05, 3.0, 200.0)


@pytest.mark.parametrize(
    ("data", "device", "hours"),
    [(*pair, hours) for pair, hours in zip(product(DATA, DEVICES), cycle(HOURS), strict=False)],
)
def test_every_study_file_loads_and_has_its_baselines_in_its_space(
    data: str, device: str, hours: float, tmp_path: Path
) -> None:
    settings = written(tmp_path, DATA[data], DEVICES[device], Asked(hours=hours))

    assert settings.search.hours == hours
    assert len(baselines_of(settings)) == 3
    assert settings.search.trials >= 6
    assert settings.modular.trials >= 3 * settings.modular.parents
    assert max(len(line) for line in (tmp_path / "study.toml").read_text().splitlines()) <= 120


def test_a_study_for_cells_on_a_cpu_is_like_the_one_written_by_hand(tmp_path: Path) -> None:
    settings = written(tmp_path, DATA["cells"], DEVICES["cpu"], Asked(hours=3))

    assert settings.space.structural.backbone_widths == (8, 12, 16)
    assert settings.space.structural.neck_channels == (32, 64)
    assert settings.space.modular.stems == ("conv7",)
    assert settings.space.modular.max_blocks == 12
    assert settings.detector.test_proposals == 100
    assert settings.train.batch_size == 4
    assert settings.latency.noise == 0.04
    assert settings.search.max_latency_ms is None
    assert settings.data == DataSettings(format="coco", val="instances_val.json")


@pytest.mark.parametrize(("slower", "bf16"), [(0.03, True), (0.03, False), (1.0, True)])
def test_wide_detectors_are_trained_in_bf16_on_a_cpu_that_can(slower: float, bf16: bool, tmp_path: Path) -> None:
    settings = written(tmp_path, DATA["cells"], replace(make_device(slower=slower), bf16=bf16), Asked(hours=50))

    wide = slower < 1
    assert (max(settings.space.structural.backbone_widths) >= 32) == wide
    assert settings.train.bf16_on_cpu == (wide and bf16)


def test_a_study_on_a_gpu_is_like_the_one_written_by_hand(tmp_path: Path) -> None:
    settings = written(tmp_path, DATA["cells"], DEVICES["gpus"], Asked(hours=3, max_latency_ms=5.5))

    assert settings.space.structural.input_sizes[-1] == "640x480"
    assert settings.space.structural.backbone_widths == (16, 32, 64)
    assert settings.space.modular.base_channels == (16, 24, 32, 48, 64)
    assert settings.train.batch_size == 8
    assert settings.search.max_latency_ms == 5.5


def test_time_that_larger_images_cannot_use_goes_into_longer_trainings(tmp_path: Path) -> None:
    facts = make_facts(size=(64, 64), edges=(10.0, 40.0), num_images=2000, per_image=1)
    few, many = (written(tmp_path, facts, DEVICES["gpus"], Asked(hours=hours)) for hours in (0.5, 50))

    steps = [settings.train.epochs * 125 for settings in (few, many)]
    assert steps == [2375, 3000]  # 800 and 2,000 by the hours alone, with factors of 3 and the bound
    assert many.search.trials > few.search.trials


def test_data_without_validation_images_say_that_some_are_held_out(tmp_path: Path) -> None:
    facts = make_facts(
        settings=DataSettings(format="yolo", drop_empty_boxes=True), held_out=True, why="data.yaml is there"
    )

    settings = written(tmp_path, facts, DEVICES["cpu"], Asked(hours=1))

    assert settings.data == facts.settings
    text = (tmp_path / "study.toml").read_text()
    assert 'format = "yolo"    # data.yaml is there' in text
    assert "val_fraction = 0.2    # no validation images are named: 50 are held out, by a hash of their content" in text
