from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.arch import EncodedBackboneSpec
from smnas_optuna.search_space.strings import (
    CHANGES,
    Change,
    Stages,
    all_strings,
    changed,
    count_strings,
    draw_string,
    places_of,
    read_string,
    spread_out,
    write_string,
)

STRINGS = list(all_strings(5, 8))
UP_TO_SEVEN = list(all_strings(5, 7))
UP_TO_SIX = list(all_strings(5, 6))


def depth_of(stages: Stages) -> int:
    return sum(map(len, stages))


def naive_strings(depth: int) -> set[Stages]:
    """All of ``depth`` blocks, found by trying all words."""
    words = ("".join(word) for word in itertools.product("12-", repeat=depth + 3))
    found = (tuple(word.split("-")) for word in words if word.count("-") == word.count("2") == 3)
    return {stages for stages in found if all(stages)}


@pytest.mark.parametrize(("low", "high"), [(5, 5), (6, 6), (7, 7), (5, 7)])
def test_strings_are_all_words_with_three_doublings_and_four_stages(low: int, high: int) -> None:
    naive = set[Stages]().union(*map(naive_strings, range(low, high + 1)))

    assert set(all_strings(low, high)) == naive
    assert len(list(all_strings(low, high))) == len(naive), "each once"
    assert count_strings(low, high) == len(naive)


@pytest.mark.parametrize(("low", "high"), [(low, high) for high in range(5, 11) for low in range(5, high + 1)])
def test_the_count_is_that_of_an_enumeration(low: int, high: int) -> None:
    assert count_strings(low, high) == sum(1 for _ in all_strings(low, high))


@pytest.mark.parametrize(("most", "total"), [(15, 1_625_712), (35, 829_669_616)])
def test_with_four_base_widths_there_are_as_many_as_the_papers_space_has(most: int, total: int) -> None:
    assert 4 * count_strings(5, most) == total


def test_every_string_is_valid_and_the_shortest_are_first() -> None:
    for stages in STRINGS:
        EncodedBackboneSpec(block="basicblock", width=4, stages=stages)
    depths = [depth_of(stages) for stages in STRINGS]
    assert depths == sorted(depths)


def test_what_is_read_of_a_string_is_written_as_the_same_string() -> None:
    for stages in STRINGS:
        depth, cuts, doublings = read_string(stages)

        assert write_string(depth, cuts, doublings) == stages
        assert (depth, list(cuts), list(doublings)) == (depth_of(stages), sorted(cuts), sorted(doublings))
    assert len({read_string(stages) for stages in STRINGS}) == len(STRINGS)


def test_the_papers_example_is_read_and_written() -> None:
    stages = ("121", "211", "1111", "12111")

    assert read_string(stages) == (15, (2, 5, 9), (1, 3, 11))
    assert write_string(15, (2, 5, 9), (1, 3, 11)) == stages


def inserted(before: str, after: str) -> bool:
    """Whether ``after`` is ``before`` with a ``1`` more."""
    return any(after[i] == "1" and after[:i] + after[i + 1 :] == before for i in range(len(after)))


def swapped(before: str, after: str) -> bool:
    """Whether two neighbours, and nothing else, have changed places; of two that differ one is a ``2`` or ``-``."""
    if len(before) != len(after):
        return False
    moved = [i for i, (mine, its) in enumerate(zip(before, after, strict=True)) if mine != its]
    return len(moved) == 2 and moved[0] + 1 == moved[1] and before[moved[0]] == after[moved[1]]


RELATIONS: dict[Change, Callable[[str, str], bool]] = {
    "insert": inserted,
    "remove": lambda before, after: inserted(after, before),
    "swap": swapped,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_exactly_the_strings_that_are_one_such_step_away(change: Change) -> None:
    for stages in UP_TO_SIX:
        text = "-".join(stages)
        made = changed(stages, change, min_blocks=5, max_blocks=6)

        expected = {other for other in UP_TO_SIX if RELATIONS[change](text, "-".join(other))}
        assert set(made) == expected
        assert made == sorted(expected, key="-".join), "each once, in the order of their texts"


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_change_makes_is_another_valid_string_within_the_limits(change: Change) -> None:
    for stages in STRINGS:
        for other in changed(stages, change, min_blocks=6, max_blocks=8):
            EncodedBackboneSpec(block="basicblock", width=4, stages=other)
            assert other != stages
            assert 6 <= depth_of(other) <= 8
            assert depth_of(other) - depth_of(stages) == {"insert": 1, "remove": -1, "swap": 0}[change]


@pytest.mark.parametrize("stages", [("1121", "1", "2", "2"), ("2", "21", "121", "1")])
def test_what_would_be_too_deep_or_too_shallow_is_not_made(stages: Stages) -> None:
    depth = depth_of(stages)

    assert changed(stages, "insert", min_blocks=5, max_blocks=depth) == []
    assert changed(stages, "remove", min_blocks=depth, max_blocks=35) == []
    assert changed(stages, "swap", min_blocks=depth, max_blocks=depth) != []


@pytest.mark.parametrize(("there", "back"), [("insert", "remove"), ("remove", "insert"), ("swap", "swap")])
def test_every_change_can_be_undone(there: Change, back: Change) -> None:
    for stages in UP_TO_SEVEN:
        for other in changed(stages, there, min_blocks=5, max_blocks=7):
            assert stages in changed(other, back, min_blocks=5, max_blocks=7)


@pytest.mark.parametrize(("low", "high"), [(5, 5), (6, 6), (5, 6), (5, 7)])
def test_changes_lead_from_any_string_to_any_other(low: int, high: int) -> None:
    # As every change can be undone, what one string leads to leads to one another.
    start = next(all_strings(low, high))
    reached, new = {start}, [start]
    while new:
        steps = [changed(stages, change, min_blocks=low, max_blocks=high) for stages in new for change in CHANGES]
        new = list(set(itertools.chain.from_iterable(steps)) - reached)
        reached |= set(new)

    assert reached == set(all_strings(low, high))


def uneven(counts: Counter[object], cells: int) -> float:
    """Pearson's statistic of ``counts`` against equal shares; of ``cells`` - 1 degrees of freedom if they are."""
    expected = counts.total() / cells
    return sum((counts[cell] - expected) ** 2 / expected for cell in counts) + (cells - len(counts)) * expected


def test_a_string_at_random_has_each_depth_alike() -> None:
    random = np.random.default_rng(0)
    depths: Counter[object] = Counter(depth_of(draw_string(5, 35, random)) for _ in range(6_200))

    assert set(depths) == set(range(5, 36))
    assert uneven(depths, 31) < 60  # 99.9 % of what 30 degrees of freedom give


def test_a_string_at_random_is_each_one_of_its_depth_alike() -> None:
    random = np.random.default_rng(0)
    drawn: Counter[object] = Counter(draw_string(5, 5, random) for _ in range(4_000))

    assert set(drawn) == set(all_strings(5, 5))
    assert uneven(drawn, 40) < 73  # 99.9 % of what 39 degrees of freedom give


def test_strings_at_random_are_valid() -> None:
    random = np.random.default_rng(0)
    for _ in range(1_000):
        EncodedBackboneSpec(block="basicblock", width=4, stages=draw_string(5, 35, random))


def test_every_place_has_a_gene_that_is_read_as_it() -> None:
    for most in range(1, 36):
        for count in range(1, most + 1):
            for place in range(count):
                gene = spread_out(place, count, most)
                assert 0 <= gene < most
                assert places_of([gene], count, most) == [place]


@pytest.mark.parametrize(("count", "most"), [(3, 3), (4, 5), (5, 5), (7, 8), (8, 12), (9, 35)])
def test_genes_of_distinct_places_are_read_as_they_are(count: int, most: int) -> None:
    for places in itertools.combinations(range(count), 3):
        assert places_of([spread_out(place, count, most) for place in places], count, most) == list(places)


@st.composite
def positions(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Three genes, the number of places, and the number of values of a gene."""
    most = draw(st.integers(4, 35))
    count = draw(st.integers(3, most))
    return draw(st.lists(st.integers(0, most - 1), min_size=3, max_size=3)), count, most


@given(positions())
def test_any_genes_are_read_as_distinct_places_in_order(drawn: tuple[list[int], int, int]) -> None:
    genes, count, most = drawn
    places = places_of(genes, count, most)

    assert len(places) == 3
    assert places == sorted(set(places))
    assert set(places) <= set(range(count))


@given(positions())
def test_the_order_of_the_genes_says_nothing(drawn: tuple[list[int], int, int]) -> None:
    genes, count, most = drawn

    assert len({tuple(places_of(order, count, most)) for order in itertools.permutations(genes)}) == 1


@given(positions())
def test_places_that_do_not_collide_are_not_moved(drawn: tuple[list[int], int, int]) -> None:
    genes, count, most = drawn
    wanted = sorted(gene * count // most for gene in genes)

    assert (places_of(genes, count, most) == wanted) == (len(set(wanted)) == 3)


@pytest.mark.parametrize(
    ("genes", "places"),
    [
        ([0, 0, 0], [0, 1, 2]),
        ([4, 4, 4], [4, 5, 6]),
        ([4, 4, 5], [4, 5, 6]),
        ([9, 9, 9], [7, 8, 9]),
        ([9, 0, 9], [0, 8, 9]),
        ([8, 9, 9], [7, 8, 9]),
        ([8, 8, 2], [2, 8, 9]),
    ],
)
def test_genes_that_fall_on_one_place_move_up_and_at_the_end_down(genes: list[int], places: list[int]) -> None:
    assert places_of(genes, 10, 10) == places


def test_a_gene_is_a_relative_place_whatever_the_depth() -> None:
    for count in range(3, 36):
        for gene in range(35):
            (place,) = places_of([gene], count, 35)
            assert abs((place + 0.5) / count - (gene + 0.5) / 35) <= 0.5 / count + 0.5 / 35


@pytest.mark.parametrize("depth", [5, 8, 15, 35])
def test_random_genes_make_stages_of_about_the_same_depth(depth: int) -> None:
    random = np.random.default_rng(0)
    lengths = []
    for _ in range(2_000):
        cuts = places_of([int(gene) for gene in random.integers(35, size=3)], depth - 1, 35)
        lengths.append([len(stage) for stage in write_string(depth, cuts, (0, 1, 2))])

    # The repair moves up, so that the first stage is somewhat deeper.
    assert np.mean(lengths, axis=0) == pytest.approx([depth / 4] * 4, rel=0.15)


def test_random_genes_make_every_string_of_five_blocks() -> None:
    random = np.random.default_rng(0)

    def places(count: int) -> list[int]:
        return places_of([int(gene) for gene in random.integers(35, size=3)], count, 35)

    assert {write_string(5, places(4), places(5)) for _ in range(2_000)} == set(all_strings(5, 5))
