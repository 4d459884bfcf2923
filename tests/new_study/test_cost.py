from __future__ import annotations

import pytest

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import StructuralSpace
from smnas_optuna.new_study.cost import CROWDED_CPU, EXPORT_S, METRICS_S, Cost, Recipe, interpolate
from smnas_optuna.new_study.facts import Timed

from .made_facts import TIMED, make_device, make_facts

CONSTANTS = DetectorConstants()


def recipe(epochs: int = 10, max_seconds: float = 4.0) -> Recipe:
    return Recipe(epochs=epochs, max_seconds=max_seconds, constants=CONSTANTS)


def timed(work: int, seconds: float) -> Timed:
    return Timed(arch="x", multiply_adds=work, train_s=seconds, detect_s=seconds, latency_ms=seconds)


@pytest.mark.parametrize(
    ("work", "seconds"),
    [(1, 1.0), (100, 1.0), (1_000, 2.0), (10_000, 4.0), (40_000, 16.0)],
    ids=["below", "least", "between", "largest", "above"],
)
def test_times_grow_as_straight_lines_of_logarithms_and_above_in_proportion(work: int, seconds: float) -> None:
    points = [timed(10_000, 4.0), timed(100, 1.0)]

    assert interpolate(points, work, lambda each: each.train_s) == pytest.approx(seconds)


def test_more_work_never_takes_less_time() -> None:
    points = [timed(100, 2.0), timed(200, 1.0), timed(400, 3.0)]

    assert interpolate(points, 200, lambda each: each.train_s) == pytest.approx(2.0)


@pytest.mark.parametrize(("epochs", "evaluations"), [(10, 2), (3, 1)], ids=["rung", "no rung"])
def test_a_training_is_its_steps_and_its_evaluations(epochs: int, evaluations: int) -> None:
    facts, alone, two = make_facts(num_images=100), make_device(workers=1), make_device(workers=2)
    middle = decode(TIMED[1])
    cost = Cost(alone, facts, Recipe(epochs=epochs, max_seconds=4.0, constants=CONSTANTS))
    work = WorkCounter(3, CONSTANTS)(middle).multiply_adds
    train_s, detect_s = (
        interpolate(alone.timed, work, read) for read in (lambda each: each.train_s, lambda each: each.detect_s)
    )

    seconds = cost.training_s(middle)

    assert seconds == pytest.approx(100 * epochs * train_s + evaluations * 25 * (detect_s + METRICS_S))
    assert Cost(two, facts, recipe(epochs)).training_s(middle) == pytest.approx(CROWDED_CPU * seconds)


def test_guided_anchoring_takes_longer_on_a_cpu_alone() -> None:
    facts = make_facts(num_val=0)
    plain, guided = (decode(f"96x72.resnet18-w16.fpn-p3-p5-c64.{rpn}.fc-w256") for rpn in ("rpn", "ga"))
    alike = Recipe(epochs=1, max_seconds=4.0, constants=DetectorConstants(test_proposals=1, guided_proposals=1))
    cpu, cuda = (Cost(make_device(kind, workers=1), facts, alike) for kind in ("cpu", "cuda"))

    assert cpu.training_s(guided) > 1.35 * cpu.training_s(plain)
    assert cuda.training_s(guided) < 1.3 * cuda.training_s(plain)


def test_workers_share_trainings_and_take_turns_in_measuring() -> None:
    facts = make_facts()
    one, four = (Cost(make_device(workers=count), facts, recipe(max_seconds=10.0)) for count in (1, 4))

    assert one.trial_s(100.0) - four.trial_s(100.0) == pytest.approx(75.0)
    assert four.trial_s(0.0) == pytest.approx(14.0 + EXPORT_S)


def test_the_mean_of_a_space_is_between_its_extremes_and_always_the_same() -> None:
    space = StructuralSpace(
        input_sizes=("96x72", "320x240"), backbones=("resnet18",), necks=("fpn",), heads=("fc",), rpns=("rpn",)
    )
    cost = Cost(make_device(), make_facts(), recipe())
    small = decode("96x72.resnet18-w64.fpn-p3-p5-c128.rpn.fc-w1024")
    large = decode("320x240.resnet18-w64.fpn-p2-p6-c256.rpn.fc-w1024")

    mean = cost.mean_training_s(space)

    assert cost.training_s(small) < mean < cost.training_s(large)
    assert cost.mean_training_s(space) == mean


def test_a_shipped_detector_is_faster_than_in_torch() -> None:
    cost = Cost(make_device(), make_facts(), recipe())
    work = WorkCounter(3, CONSTANTS)(decode(TIMED[1])).multiply_adds

    expected = 0.5 * interpolate(make_device().timed, work, lambda each: each.latency_ms)
    assert cost.latency_ms(decode(TIMED[1])) == pytest.approx(expected)
