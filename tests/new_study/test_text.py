from __future__ import annotations

import tomllib
from typing import Any

import pytest

from smnas_optuna.new_study.facts import Asked
from smnas_optuna.new_study.text import study_text, toml, written
from smnas_optuna.new_study.values import Line, choose_values

from .made_facts import make_device, make_facts


@pytest.mark.parametrize(
    "value",
    [True, 3, 0.006, 4.0, 1e-7, 'a "quoted" \\ name', "späte Ä\x7f\n\t\x00", ("a", "b"), (1, 2), ("x" * 40,) * 9],
    ids=str,
)
def test_toml_reads_as_what_was_written(value: Any) -> None:
    read = tomllib.loads(f"key = {toml(value)}")["key"]

    assert read == (list(value) if isinstance(value, tuple) else value)


def test_a_reason_is_behind_its_value_or_above_it() -> None:
    assert written(Line(key="a", value=1, because="of this")) == ["a = 1    # of this"]
    assert written(Line(key="a", value=1)) == ["a = 1"]
    long = written(Line(key="a", value=1, because="word " * 40))
    assert long[-1] == "a = 1"
    assert all(line.startswith("# word") and len(line) <= 118 for line in long[:-1])


def test_the_head_says_what_the_study_is_made_from() -> None:
    facts, device, asked = make_facts(num_test=7), make_device(), Asked(hours=3)

    head = study_text("mine", choose_values(facts, device, asked), facts, device, asked).split("\n\n")[0]

    assert "# mine: written by `smnas init` for 3 hours. Change what you like before the search begins." in head
    assert "# Data: COCO; 200 training and 50 validation images, 7 test images; 3 classes." in head
    assert "# Objects: 2,000 for training; edges of " in head
    assert "# Device: CPU, Made Up; 2 workers of 1 thread." in head
    assert "96x72.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128" in head
