"""The cost in the header of ``studies/coco`` is what ``benchmarks/coco_cost.py`` computes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # no package: scripts that share modules

from coco_cost import STUDY, header, hours_of, modular_cost, structural_cost  # noqa: E402

STUDIES = sorted((ROOT / "studies").glob("*/study.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_every_study_begins_with_its_command_and_its_cost_or_result(path: Path) -> None:
    comment = [line for line in path.read_text().partition("\n[")[0].splitlines() if line.startswith("# ")]

    assert any(line.startswith("# Command: ") for line in comment)
    assert any(word in line for line in comment for word in ("Cost", "ESTIMATE of the cost", "Result"))


def test_only_the_cost_of_coco_is_an_estimate() -> None:
    """What is measured cannot be computed again, and what is estimated must be."""
    assert [path.parent for path in STUDIES if "ESTIMATE" in path.read_text()] == [STUDY]


def test_the_header_of_coco_has_the_cost_that_is_computed() -> None:
    text = (STUDY / "study.toml").read_text()

    for line in header(load_settings(STUDY)):
        assert f"# {line}\n" in text


def test_the_published_detector_takes_as_long_as_published() -> None:
    settings = load_settings(STUDY)
    spec = decode("1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024")
    (hours,) = hours_of(settings, [spec])

    assert hours == pytest.approx(5 * 118_287 / 9.125 / 3600)
    assert hours_of(settings.for_modular(), [spec])[0] == pytest.approx(hours * 9 / 5)


def test_a_limit_makes_both_stages_cheaper_and_no_limit_refuses_nothing() -> None:
    limited = load_settings(STUDY)
    free = limited.model_copy(update={"search": limited.search.model_copy(update={"max_seconds_per_trial": None})})

    cost = structural_cost(free)
    assert (cost.refused, cost.hours) == (0, cost.unlimited_hours)
    assert structural_cost(limited).total < cost.total
    assert (modular := modular_cost(limited)).hours < modular.unlimited_hours


def test_every_baseline_of_coco_keeps_to_the_limit_in_stage_1() -> None:
    settings = load_settings(STUDY)
    limit = settings.search.max_seconds_per_trial

    assert limit is not None
    assert (hours_of(settings, [decode(arch) for arch in settings.search.baselines]) * 3600 < limit).all()


def test_coco_has_300_trainings_for_each_of_six_parents_and_a_recipe_for_each_stage() -> None:
    settings = load_settings(STUDY)

    assert (settings.modular.parents, settings.modular.trials / settings.modular.parents) == (6, 300)
    assert settings.for_modular().train.epochs == 9 != settings.train.epochs
    assert settings.space.structural.neck_max_levels == (5, 6, 7)
