from __future__ import annotations

import pytest

from smnas_optuna.arch import BackboneSpec, DetectorConstants, encode
from smnas_optuna.new_study import scale as rules
from smnas_optuna.new_study.cost import Cost, Recipe
from smnas_optuna.new_study.facts import Asked, DataFacts, DeviceFacts
from smnas_optuna.search_space import StructuralSearchSpace

from .made_facts import make_device, make_facts


def chosen(facts: DataFacts, device: DeviceFacts, asked: Asked) -> rules.Scale:
    recipe = Recipe(epochs=10, max_seconds=4.0, constants=DetectorConstants(test_proposals=100, guided_proposals=100))
    return rules.choose_scale(facts, device, asked, Cost(device, facts, recipe), lambda _: 4.0)


def test_a_small_study_is_that_of_bccd_small_and_a_large_one_that_of_bccd() -> None:
    assert rules.widths_of(16) == ((8, 12, 16), (32, 64), (128, 256))
    assert rules.widths_of(64) == ((16, 32, 64), (64, 128, 256), (256, 1024))


def test_wider_backbones_go_with_larger_images_and_with_a_gpu() -> None:
    sizes = [(edge, edge * 3 // 4) for edge in (96, 288, 320, 512, 640, 1344)]

    assert [rules.width_at(size, "cpu") for size in sizes] == [16, 16, 24, 32, 48, 64]
    assert rules.width_at((992, 50), "cpu") == 16
    assert {rules.width_at(size, "cuda") for size in sizes} == {64}


def test_sizes_of_study_become_wider_once_the_images_have_their_full_size() -> None:
    found = rules.rungs(make_facts(size=(320, 240)), "cpu")

    assert found[0] == rules.Rung(edge=96, width=16)
    assert found[-4:] == [rules.Rung(edge=320, width=width) for width in (24, 32, 48, 64)]


def test_small_objects_in_large_images_do_not_take_a_wide_network_on_a_cpu() -> None:
    facts = make_facts(size=(4000, 3000), edges=(10.0, 14.0))

    found, on_gpu = (rules.rungs(facts, kind) for kind in ("cpu", "cuda"))

    assert [rung.width for rung in found] == [16, 24, 32, 48, 64]
    assert {rung.edge for rung in found} == {1344}
    assert on_gpu == [rules.Rung(edge=1344, width=64)]


@pytest.mark.parametrize(("hours", "trials"), [(0.05, 6), (0.5, 12), (3, 22), (8, 30), (40_000, 200)])
def test_more_hours_aim_at_more_trainings(hours: float, trials: int) -> None:
    assert rules.aimed_trials(hours) == trials


def test_more_hours_give_larger_detectors_and_a_training_its_share_of_the_time() -> None:
    facts, device = make_facts(), make_device(slower=0.3)
    scales = [chosen(facts, device, Asked(hours=hours)) for hours in (0.5, 3, 20)]

    assert [scale.rung.edge for scale in scales] == sorted(scale.rung.edge for scale in scales)
    assert scales[0].rung.edge < scales[-1].rung.edge
    assert all(scale.cheap for scale in scales)
    for hours, scale in zip((0.5, 3, 20), scales, strict=True):
        aimed_s = rules.share_s(Asked(hours=hours), rules.STRUCTURAL_SHARE) / rules.aimed_trials(hours)
        assert scale.trial_s <= rules.DEARER * aimed_s


def test_larger_inputs_come_before_deeper_backbones() -> None:
    facts, device = make_facts(), make_device()
    smallest, larger, deeper = (chosen(facts, device, Asked(hours=hours)) for hours in (0.75, 1, 1.5))

    assert [scale.rung.edge for scale in (smallest, larger, deeper)] == [96, 192, 192]
    assert smallest.space.backbones == larger.space.backbones == rules.BASIC_FAMILIES
    assert deeper.space.backbones[:3] == (*rules.BASIC_FAMILIES, "resnet50")
    families = [rules.baselines_of(scale.space)[-1].backbone for scale in (larger, deeper)]
    assert families == [BackboneSpec(family=family, width=16) for family in ("resnet34", "resnet50")]


def test_a_slow_device_gets_the_smallest_study_and_is_told() -> None:
    scale = chosen(make_facts(), make_device(slower=100.0), Asked(hours=0.5))

    assert scale.rung.edge == 96
    assert not scale.cheap
    assert scale.space.heads == ("retina", "fc", "cascade2")
    assert scale.space.necks == ("fpn",)
    assert scale.space.backbones == rules.BASIC_FAMILIES
    assert scale.reasons["backbones"].startswith(
        "without mobilenet_v2, which learnt nothing at such widths; "
        "without resnet50, resnext50, resnet101, resnext101: each would take too much"
    )


def test_a_fast_device_gets_everything() -> None:
    scale = chosen(make_facts(size=(160, 120)), make_device("cuda", workers=1, slower=0.01), Asked(hours=8))

    assert len(scale.space.backbones) == 7
    assert scale.space.heads[-1] == "cascade3"
    assert scale.space.necks == ("c4", "fpn")
    assert scale.reasons["necks"] == "both fit into the hours"


def test_a_limit_of_latency_keeps_detectors_small() -> None:
    facts, device = make_facts(), make_device()
    free, limited = (chosen(facts, device, Asked(hours=20, max_latency_ms=limit)) for limit in (None, 8.0))

    assert limited.rung.edge < free.rung.edge


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("hours", [0.5, 8])
def test_baselines_are_in_the_space_cheapest_first(kind: str, hours: float) -> None:
    device = make_device("cpu" if kind == "cpu" else "cuda")
    facts = make_facts(edges=(100.0, 450.0))
    scale = chosen(facts, device, Asked(hours=hours))

    baselines = rules.baselines_of(scale.space)

    cost = Cost(device, facts, Recipe(epochs=10, max_seconds=4.0, constants=DetectorConstants()))
    assert [encode(spec) for spec in baselines] == list(rules.choose_baselines(scale.space).value)
    assert [cost.training_s(spec) for spec in baselines] == sorted(cost.training_s(spec) for spec in baselines)
    for spec in baselines:
        StructuralSearchSpace(scale.space).genome(spec)  # raises for one that is outside


def test_trials_are_those_that_fit_into_a_share_of_the_hours() -> None:
    asked = Asked(hours=1.0)

    assert rules.choose_trials(asked, 0.45, 60.0).value == 26  # 1,620 s without 60 s of start
    assert rules.choose_trials(asked, 0.45, 60.0).because == "45% of the hours, one every 60 s, by all workers"
    assert rules.choose_trials(asked, 0.45, 1000.0).value == rules.LEAST_TRIALS
    assert "45% of the hours are enough for 1" in rules.choose_trials(asked, 0.45, 1000.0).because
    assert rules.choose_trials(asked, 0.45, 0.1).value == rules.MOST_TRIALS


@pytest.mark.parametrize(("trials", "parents"), [(6, 2), (23, 2), (24, 3), (200, 3)])
def test_a_parent_gets_enough_trainings(trials: int, parents: int) -> None:
    assert rules.choose_parents(trials).value == parents


def test_the_hours_that_trainings_want_have_time_for_them() -> None:
    hours = 1.0001 * rules.hours_for(10, 300.0)

    assert rules.choose_trials(Asked(hours=hours), rules.STRUCTURAL_SHARE, 300.0).value == 10
