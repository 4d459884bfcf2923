from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.search.plan import Progress, Standing, next_turn

PROGRESS: tuple[Progress, ...] = ("open", "busy", "exhausted", "foreign")


def standing(trained: int, progress: Progress = "open", **others: int) -> Standing:
    return Standing(**{"trained": trained, "first": 2, "population": 4, **others}, progress=progress)


def promise_of(*promised: float) -> object:
    """The studies at the places asked for promise that."""
    return lambda places: [promised[place] for place in places]


NEVER = promise_of()
"""Is not to be asked: there is no choice."""


@pytest.mark.parametrize(
    ("standings", "budget", "promise", "turn"),
    [
        ([standing(0), standing(0)], 16, NEVER, (0, 2)),
        ([standing(2), standing(0)], 16, NEVER, (1, 2)),
        ([standing(2), standing(1, running=1)], 16, promise_of(1, 2), (1, 6)),
        ([standing(2), standing(2)], 16, promise_of(2, 1), (0, 6)),
        ([standing(2), standing(2)], 16, promise_of(1, 1), (0, 6)),
        ([standing(4), standing(2)], 16, promise_of(2, 1), (0, 6)),
        ([standing(6), standing(2)], 16, promise_of(2, 1), (0, 10)),
        ([standing(5, running=1), standing(2)], 16, promise_of(2, 1), (0, 10)),
        ([standing(6), standing(2)], 9, promise_of(2, 1), (0, 7)),
        ([standing(6), standing(2)], 8, NEVER, None),
        ([standing(5, running=1), standing(2)], 8, NEVER, None),
        ([standing(6), standing(2)], 7, NEVER, None),
        ([standing(0), standing(0)], 1, NEVER, (0, 1)),
        ([standing(1), standing(0)], 3, NEVER, (1, 2)),
        ([standing(6), standing(2, interrupted=1)], 16, NEVER, (1, 3)),
        ([standing(6), standing(2, interrupted=3)], 10, NEVER, (1, 4)),
        ([standing(6), standing(2, "foreign")], 16, NEVER, (0, 14)),
        ([standing(0), standing(9, "foreign")], 16, NEVER, (0, 7)),
        ([standing(2), standing(2, "busy"), standing(2)], 16, promise_of(1, 9, 2), (2, 6)),
        ([standing(2), standing(2, "exhausted"), standing(2)], 16, promise_of(1, 9, 2), (2, 6)),
        ([standing(2, "exhausted"), standing(1, "busy"), standing(1, "foreign")], 9, NEVER, None),
        ([], 9, NEVER, None),
    ],
    ids=[
        *("a first generation", "the next first generation", "what is begun counts", "a promise", "the same promise"),
        *("the rest of a generation", "the next generation", "a generation that others end", "the end of the budget"),
        *("nothing left", "nothing left to begin", "beyond the budget", "a tiny budget", "the first one with fewer"),
        *("an interrupted one", "interrupted ones, as the budget allows", "no choice", "foreign ones count"),
        *("a busy one", "an exhausted one", "nobody", "no studies"),
    ],
)
def test_the_next_turn(standings: list[Standing], budget: int, promise: object, turn: tuple[int, int] | None) -> None:
    assert next_turn(standings, budget, promise) == turn  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("standings", "budget", "turn"),
    [
        ([standing(2), standing(2)], 16, (0, 6)),
        ([standing(6), standing(2)], 16, (1, 6)),
        ([standing(6), standing(6)], 16, (0, 8)),
        ([standing(8), standing(6)], 16, (1, 8)),
        ([standing(10), standing(2)], 16, (1, 6)),
        ([standing(6, "exhausted"), standing(6), standing(2)], 20, (2, 6)),
    ],
    ids=["the first", "the other", "half of the rest", "the other half", "one beyond its share", "an exhausted one"],
)
def test_without_promises_the_shares_are_equal(
    standings: list[Standing], budget: int, turn: tuple[int, int] | None
) -> None:
    assert next_turn(standings, budget, lambda _: None) == turn


studies = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(1, 4), st.integers(2, 6), st.sampled_from(PROGRESS)),
    min_size=1,
    max_size=5,
)


@given(studies, st.integers(1, 40), st.randoms(), st.booleans())
def test_turns_spend_the_budget_to_the_training(
    found: list[tuple[int, int, int, int, Progress]], budget: int, random: object, mute: bool
) -> None:
    """Sizes of spaces are at least what is trained; whoever trains less than its turn is exhausted."""
    standings = [
        Standing(trained=trained, first=first, population=population, progress=progress)
        for trained, _, first, population, progress in found
    ]
    sizes = [trained + 3 * more for trained, more, *_ in found]
    before = [each.trained for each in standings]
    most = sum(
        max(size, each.trained) if each.progress == "open" else each.trained
        for size, each in zip(sizes, standings, strict=True)
    )

    def promise(places: Sequence[int]) -> Sequence[float] | None:
        return None if mute else [random.random() for _ in places]  # type: ignore[attr-defined]

    for _ in range(100):
        turn = next_turn(standings, budget, promise)
        if turn is None:
            break
        place, until = turn
        each = standings[place]
        assert each.progress == "open"
        assert each.trained < until <= each.trained + budget - sum(s.trained for s in standings)
        trained = min(until, sizes[place])
        standings[place] = Standing(
            trained=trained,
            first=each.first,
            population=each.population,
            progress="open" if trained == until else "exhausted",
        )
    assert turn is None
    assert sum(each.trained for each in standings) == max(sum(before), min(budget, most))
