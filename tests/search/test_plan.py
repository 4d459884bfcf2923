from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.search.plan import Progress, next_study

PROGRESS: tuple[Progress, ...] = ("new", "open", "busy", "exhausted", "foreign")


@pytest.mark.parametrize(
    ("trained", "progress", "budget", "turn"),
    [
        ([0], ["new"], 5, (0, [5])),
        ([5], ["new"], 5, (0, [5])),
        ([9], ["new"], 5, (0, [9])),
        ([3], ["open"], 5, (0, [5])),
        ([5], ["open"], 5, None),
        ([3], ["busy"], 5, None),
        ([3], ["exhausted"], 5, None),
        ([3], ["foreign"], 5, None),
        ([0, 0], ["open", "open"], 5, (0, [3, 2])),
        ([3, 0], ["open", "open"], 5, (1, [3, 2])),
        ([0, 0], ["open", "new"], 5, (1, [3, 2])),
        ([3, 2], ["open", "new"], 5, (1, [3, 2])),
        ([3, 2], ["open", "open"], 5, None),
        ([5, 1], ["open", "open"], 4, None),
        ([1, 2], ["exhausted", "open"], 6, (1, [1, 5])),
        ([1, 2, 2], ["exhausted", "open", "open"], 8, (1, [1, 4, 3])),
        ([4, 0], ["foreign", "open"], 6, (1, [4, 2])),
        ([4, 0], ["foreign", "open"], 4, None),
        ([2, 2], ["busy", "open"], 6, (1, [3, 3])),
        ([2, 3], ["busy", "open"], 6, None),
        ([1, 1, 1], ["exhausted", "busy", "foreign"], 9, None),
    ],
    ids=[
        *("new", "new and full", "new and beyond", "open", "full", "busy", "exhausted", "foreign"),
        *("equal shares", "the next share", "a new one first", "a new one though all is trained", "all shares"),
        *("one beyond its share", "an exhausted one's share", "shared by two", "a foreign one counts"),
        *("a foreign one has it all", "a busy one keeps its share", "the rest is busy", "nothing to be done"),
    ],
)
def test_the_next_study_and_the_shares(
    trained: list[int], progress: list[Progress], budget: int, turn: tuple[int, list[int]] | None
) -> None:
    assert next_study(trained, progress, budget) == turn


studies = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(PROGRESS)), min_size=1, max_size=5)


@given(studies, st.integers(1, 30))
def test_the_shares_are_the_budget_and_nothing_that_is_trained_is_taken_away(
    found: list[tuple[int, Progress]], budget: int
) -> None:
    trained, progress = [count for count, _ in found], [known for _, known in found]

    turn = next_study(trained, progress, budget)

    if turn is None:
        assert "new" not in progress
        return
    place, budgets = turn
    assert sum(budgets) == max(budget, sum(trained))
    assert all(share >= count for share, count in zip(budgets, trained, strict=True))
    assert progress[place] == ("new" if "new" in progress else "open")
    closed = [each for each, known in enumerate(progress) if known in ("exhausted", "foreign")]
    assert all(budgets[each] == trained[each] for each in closed)
    assert progress[place] == "new" or trained[place] < budgets[place]


def searched(sizes: Sequence[int], trained: Sequence[int], progress: Sequence[Progress], budget: int) -> list[int]:
    """What each study has trained in the end if it has ``sizes`` architectures, and its turns are taken."""
    trained, progress = list(trained), list(progress)
    for _ in range(2 * len(sizes) + 1):
        turn = next_study(trained, progress, budget)
        if turn is None:
            return trained
        place, budgets = turn
        trained[place] = max(trained[place], min(sizes[place], budgets[place]))
        progress[place] = "exhausted" if trained[place] < budgets[place] else "open"
    raise AssertionError("a study has one turn as new, and at most one for each study that is exhausted")


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.booleans()), min_size=1, max_size=5),
    st.integers(1, 30),
)
def test_in_turns_the_budget_is_spent_unless_all_that_is_searched_is_exhausted(
    found: list[tuple[int, int, bool]], budget: int
) -> None:
    sizes = [max(size, count) for size, count, _ in found]
    before = [count for _, count, _ in found]
    progress: list[Progress] = ["foreign" if foreign else "new" for *_, foreign in found]
    most = sum(before[i] if progress[i] == "foreign" else sizes[i] for i in range(len(found)))

    trained = searched(sizes, before, progress, budget)

    assert sum(trained) == max(sum(before), min(budget, most))
