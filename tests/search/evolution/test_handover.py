from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.trial import create_trial

from smnas_optuna.arch import BackboneSpec, MobileNetSpec, canonical, decode, encode
from smnas_optuna.config import ModularSpace
from smnas_optuna.search.evolution.handover import (
    FIRST_PER_PLACE,
    choose_parents,
    first_generation,
    share_out,
    structure_of,
)
from smnas_optuna.search_space import ModularSearchSpace
from smnas_optuna.search_space.strings import changed
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import TrialRecord, read_record

HEADS = "fpn-p2-p5-c8.rpn.fc-w16"


def arch_of(size: int, backbone: str = "resnet18-w4") -> str:
    """An architecture whose structure is that of its ``size`` alone, whatever the depth and width of its backbone."""
    return f"{64 + size}x48.{backbone}.{HEADS}"


def front_of(*members: tuple[float, float, str]) -> list[TrialRecord]:
    """A front of (latency in ms, AP, architecture), fastest first."""
    records = [read_record(create_trial(values=(ms, ap), user_attrs={"arch": arch})) for ms, ap, arch in members]
    assert pareto_front(records) == records
    return records


A, B, C, D, E = (arch_of(size) for size in range(5))
B_AGAIN, C_AGAIN = arch_of(1, "resnet34-w8"), arch_of(2, "basicblock-w8-11-21-21-21")

# Bounded by 17.6 ms; without one of them the hypervolume would miss 0.1, 0.6, 1.1 and 0.64 ms.
FOUR = front_of((1.0, 0.1, A), (2.0, 0.3, B), (5.0, 0.4, C), (16.0, 0.8, D))


@pytest.mark.parametrize(
    ("count", "parents"),
    [(1, [C]), (2, [B, C]), (3, [B, C, D]), (4, [A, B, C, D]), (5, [A, B, C, D]), (100, [A, B, C, D])],
)
def test_each_band_of_latency_gives_what_the_hypervolume_would_miss_most(count: int, parents: list[str]) -> None:
    # Two bands meet at 4 ms, three at 2.5 and 6.3 ms, four at 2, 4 and 8 ms.
    assert set(choose_parents(FOUR, count)) == set(parents)
    assert len(choose_parents(FOUR, count)) == len(parents)


def test_parents_are_in_the_order_of_their_bands() -> None:
    assert choose_parents(FOUR, 3) == [B, C, D]


def test_bands_are_as_wide_as_others_in_the_logarithm_of_latency() -> None:
    # Two bands meet at 10 ms and not at 50.5 ms. Missed would be 0.8, 0.2, 15.2, 15.3 and 0.1.
    front = front_of((1.0, 0.1, A), (9.0, 0.2, B), (11.0, 0.6, C), (49.0, 0.9, D), (100.0, 0.91, E))

    assert choose_parents(front, 2) == [A, D]


def test_a_band_without_members_is_made_up_for_by_what_is_missed_most_of_all_that_are_left() -> None:
    # Three bands meet at 2.5 and 6.3 ms, and nobody is in the second. Missed would be 0.01, 0.06, 1.5, 0.2 and 0.96.
    front = front_of((1.0, 0.1, A), (1.1, 0.2, B), (1.2, 0.3, C), (15.0, 0.5, D), (16.0, 0.9, E))

    assert choose_parents(front, 3) == [C, E, D]


def test_members_of_one_structure_are_taken_once() -> None:
    # The second band's best is of the structure that the first has given.
    front = front_of((1.0, 0.1, A), (2.0, 0.3, C), (5.0, 0.4, C_AGAIN), (16.0, 0.8, D))

    assert choose_parents(front, 2) == [C, D]


def test_a_band_whose_structures_are_all_taken_is_made_up_for() -> None:
    front = front_of((1.0, 0.1, A), (2.0, 0.3, C), (16.0, 0.8, C_AGAIN))

    assert choose_parents(front, 2) == [C, A]


def test_members_of_one_structure_are_taken_if_there_is_nothing_else() -> None:
    front = front_of((1.0, 0.1, A), (2.0, 0.3, C), (16.0, 0.8, C_AGAIN))

    assert choose_parents(front, 3) == [C, A, C_AGAIN]
    assert choose_parents(front_of((1.0, 0.1, B), (2.0, 0.3, B_AGAIN)), 2) == [B, B_AGAIN]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_only_member_of_a_front_is_the_only_parent(count: int) -> None:
    assert choose_parents(front_of((3.0, 0.5, A)), count) == [A]
    assert choose_parents(front_of((3.0, 0.0, A)), count) == [A]


@pytest.mark.parametrize(
    ("chosen", "count", "parents"),
    [
        ([A], 1, [A]),
        ([A], 2, [A, C]),
        ([D, A], 3, [D, A, C]),
        ([E], 3, [E, C, D]),
        ([C_AGAIN], 3, [C_AGAIN, D, B]),
        ([E, C_AGAIN], 6, [E, C_AGAIN, D, B, A, C]),
        ([D, E, A], 2, [D, E, A]),
        ([D, E, A], 3, [D, E, A]),
    ],
    ids=[
        *("enough", "one more", "in their order", "not on the front any more", "the same structure"),
        *("more than there are structures", "fewer than chosen", "as many as chosen"),
    ],
)
def test_chosen_parents_stay_and_the_others_are_those_missed_most(
    chosen: list[str], count: int, parents: list[str]
) -> None:
    assert choose_parents(FOUR, count, chosen) == parents


def test_a_parent_that_was_chosen_under_another_spelling_is_chosen() -> None:
    old = arch_of(2, "basicblock-w4-conv7-11-21-21-21")
    assert canonical(old) == C

    assert choose_parents(FOUR, 4, [old]) == [old, D, B, A]
    assert choose_parents(FOUR, 9, [old]) == [old, D, B, A], "and is none of those that are left"


@st.composite
def fronts(draw: st.DrawFn) -> list[TrialRecord]:
    """Any number of members, of few structures."""
    count = draw(st.integers(1, 7))
    latencies = sorted(draw(st.sets(st.integers(1, 50), min_size=count, max_size=count)))
    aps = sorted(draw(st.sets(st.integers(0, 50), min_size=count, max_size=count)))
    sizes = [draw(st.integers(0, 4)) for _ in range(count)]
    archs = [arch_of(size, f"resnet18-w{4 + place}") for place, size in enumerate(sizes)]
    return front_of(*((float(ms), ap / 50, arch) for ms, ap, arch in zip(latencies, aps, archs, strict=True)))


@given(fronts(), st.integers(1, 9))
def test_parents_are_distinct_members_of_as_many_structures_as_there_can_be(
    front: list[TrialRecord], count: int
) -> None:
    archs = [str(record.arch) for record in front]
    parents = choose_parents(front, count)

    assert len(parents) == len(set(parents)) == min(count, len(front))
    assert set(parents) <= set(archs)
    assert len(set(map(structure_of, parents))) == min(count, len(set(map(structure_of, archs))))


@given(fronts(), st.integers(1, 9), st.integers(0, 9))
def test_more_parents_are_added_to_those_that_are_chosen(front: list[TrialRecord], count: int, more: int) -> None:
    before = choose_parents(front, count)
    after = choose_parents(front, count + more, before)

    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == min(count + more, len(front))


@pytest.mark.parametrize(
    "same",
    [
        arch_of(0, "resnet34-w4"),
        arch_of(0, "resnet18-w8"),
        arch_of(0, "basicblock-w4-111-21-2-211"),
        arch_of(0, "basicblock-w4-conv7-11-21-21-21"),
        "64x48.resnet18-w4.fpn-p2-p5-c12.rpn.fc-w16",
        "64x48.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w24",
    ],
    ids=["depth", "base width", "written out", "itself, written out", "neck's width", "head's width"],
)
def test_what_stage_2_searches_makes_no_other_structure(same: str) -> None:
    assert structure_of(same) == structure_of(A)


def test_what_stage_2_keeps_makes_another_structure() -> None:
    others = [
        *(arch_of(1), arch_of(0, "resnet50-w4"), arch_of(0, "resnext50-w4"), arch_of(0, "mobilenet_v2-w4")),
        "64x64.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w16",
        *(f"64x48.resnet18-w4.{neck}.rpn.fc-w16" for neck in ("fpn-p3-p5-c8", "fpn-p2-p6-c8", "fpn-p2-p6-c8-convp5")),
        *(f"64x48.resnet18-w4.fpn-p2-p5-c8.{heads}" for heads in ("ga.fc-w16", "rpn.cascade2-w16", "rpn.cascade3-w16")),
        *("64x48.resnet18-w4.fpn-p2-p5-c8.none.retina", "64x48.resnet18-w4.c4.rpn.fc"),
    ]

    assert len({structure_of(arch) for arch in (A, *others)}) == 1 + len(others)


SETTINGS = ModularSpace(base_channels=(4, 8), max_blocks=12, neck_channels=(8, 12), head_widths=(16, 24))
PARENTS = [A, "96x72.resnet50-w8.c4.ga.cascade2", "96x72.mobilenet_v2-w8.fpn-p3-p6-c8.none.retina", C_AGAIN]


def generation(parent: str, *, population: int = 8, seed: int = 0, settings: ModularSpace = SETTINGS) -> list[str]:
    space = ModularSearchSpace(settings, decode(parent))
    specs = first_generation(space, decode(parent), population, seed)
    for spec in specs:
        assert space.express(space.genome(spec)) == spec
    return [encode(spec) for spec in specs]


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("population", [1, 4, 20])
def test_the_first_generation_is_the_parent_itself_and_others_of_its_space(parent: str, population: int) -> None:
    archs = generation(parent, population=population)

    assert archs[0] == encode(decode(parent))
    assert len(archs) == len(set(archs)) == FIRST_PER_PLACE * population


def test_the_others_are_a_few_changes_away_from_the_parent() -> None:
    parent, *others = (arch.split(".")[1] for arch in generation(A, population=20))
    blocks = [text.split("-", 2)[2].removeprefix("conv7-") for text in others if text.startswith("basicblock")]

    assert parent == "resnet18-w4"
    assert len(blocks) > 0.9 * len(others)
    assert all(abs(len(text) - len("11-21-21-21")) <= 3 for text in blocks)


def test_the_neighbours_of_mobilenet_are_mobilenets() -> None:
    arch = "96x72.mobilenet_v2-w8.fpn-p3-p6-c8.none.retina"
    parent, *others = map(decode, generation(arch, population=20))

    assert encode(parent) == arch
    rows = [spec.backbone for spec in others if isinstance(spec.backbone, MobileNetSpec)]
    assert len(rows) > 0.9 * len(others), "the others are of other base channels"
    assert {spec.backbone.family for spec in others if isinstance(spec.backbone, BackboneSpec)} <= {"mobilenet_v2"}
    assert all(abs(sum(each.depths) - 16) <= 3 for each in rows)
    assert all(sum(expansion != 6 for expansion in each.expansions) <= 3 for each in rows)


@pytest.mark.parametrize("parent", PARENTS)
def test_the_first_generation_depends_on_the_seed_and_the_parent_alone(parent: str) -> None:
    assert generation(parent, seed=3) == generation(parent, seed=3)
    assert set(generation(parent, seed=3)[1:]) != set(generation(parent, seed=4)[1:])


def test_a_larger_population_goes_on_with_the_same() -> None:
    assert generation(A, population=10)[: 4 * FIRST_PER_PLACE] == generation(A, population=4)


def test_a_tiny_space_has_a_first_generation_of_all_that_three_changes_make() -> None:
    parent = "64x48.basicblock-w4-2-2-2-11.fpn-p2-p5-c8.rpn.fc-w16"
    settings = ModularSpace(base_channels=(4,), max_blocks=5, neck_channels=(8,), head_widths=(16,))
    reached: set[tuple[str, ...]] = {("2", "2", "2", "11")}
    for _ in range(3):
        reached = {made for stages in reached for made in changed(stages, "swap", min_blocks=5, max_blocks=5)}

    archs = generation(parent, population=100, settings=settings)

    assert archs[0] == parent
    assert len(archs) == len(set(archs)) == 1 + len(reached)
    assert {arch.split(".")[1] for arch in archs[1:]} == {f"basicblock-w4-{'-'.join(stages)}" for stages in reached}


@pytest.mark.parametrize(
    ("total", "trained", "closed", "budgets"),
    [
        (60, [0, 0, 0], (), [20, 20, 20]),
        (61, [0, 0, 0], (), [21, 20, 20]),
        (62, [0, 0, 0], (), [21, 21, 20]),
        (2, [0, 0, 0], (), [1, 1, 0]),
        (0, [0, 0], (), [0, 0]),
        (60, [40, 0, 0], (), [40, 10, 10]),
        (60, [20, 25, 5], (), [20, 25, 15]),
        (60, [30, 30, 30], (), [30, 30, 30]),
        (60, [10, 0, 0], (0,), [10, 25, 25]),
        (60, [10, 0, 0], (0, 2), [10, 50, 0]),
        (60, [10, 5, 5], (0, 1, 2), [10, 5, 5]),
        (7, [], (), []),
    ],
    ids=[
        *("equal", "one over", "two over", "fewer than studies", "none", "one ahead", "two ahead", "spent"),
        *("one closed", "two closed", "all closed", "no studies"),
    ],
)
def test_shares(total: int, trained: list[int], closed: tuple[int, ...], budgets: list[int]) -> None:
    assert share_out(total, trained, closed) == budgets


@given(st.integers(0, 120), st.lists(st.integers(0, 30), min_size=1, max_size=5), st.sets(st.integers(0, 4)))
def test_shares_are_as_equal_as_can_be(total: int, trained: list[int], closed: set[int]) -> None:
    budgets = share_out(total, trained, closed)
    open_places = [place for place in range(len(trained)) if place not in closed]

    assert all(budget >= done for budget, done in zip(budgets, trained, strict=True))
    assert all(budgets[place] == trained[place] for place in range(len(trained)) if place in closed)
    assert sum(budgets) == (max(total, sum(trained)) if open_places else sum(trained))
    raised = [place for place in open_places if budgets[place] > trained[place]]
    assert all(budgets[place] <= budgets[other] + 1 for place in raised for other in open_places)
    rest = [budgets[place] for place in raised]
    assert rest == sorted(rest, reverse=True), "the first ones get the rest"


@given(st.integers(0, 60), st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 60))
def test_shares_are_the_same_whenever_they_are_asked_on_the_way(total: int, trained: list[int], done: int) -> None:
    budgets = share_out(total, trained)
    assume(sum(budgets) == total)
    on_the_way = [min(before + done, budget) for before, budget in zip(trained, budgets, strict=True)]

    assert share_out(total, on_the_way) == budgets


def test_what_promises_most_is_a_parent_and_bands_fill_up() -> None:
    asked: list[list[str]] = []

    def promising(archs: Sequence[str]) -> str | None:
        asked.append(list(archs))
        return next((arch for arch in (D, A) if arch in archs), None)

    assert choose_parents(FOUR, 3, (), promising) == [D, A, C], "C would be missed most of what is left"
    assert asked == [[A, B, C, D], [A, B, C], [B, C]]
    assert choose_parents(FOUR, 2, [C], promising) == [C, D]
    assert choose_parents(FOUR, 3, (), lambda _: None) == [B, C, D], "the bands, where nothing can be said"


def test_a_structure_that_is_taken_is_not_asked_about() -> None:
    front = front_of((1.0, 0.1, A), (2.0, 0.3, C), (16.0, 0.8, C_AGAIN))
    asked: list[list[str]] = []

    def promising(archs: Sequence[str]) -> str | None:
        asked.append(list(archs))
        return archs[-1]

    assert choose_parents(front, 3, (), promising) == [C_AGAIN, A, C]
    assert asked == [[A, C, C_AGAIN], [A]]
