from __future__ import annotations

import pytest

from smnas_optuna.runtime.names import Operators
from smnas_optuna.runtime.operators import typical_run


def _run(*times: float, first: str = "/neck/Conv") -> Operators:
    return list(zip([first, "/neck/Relu"], times, strict=True))


def test_what_disturbs_a_run_does_not_count_and_neither_does_the_warm_up() -> None:
    runs = [_run(900, 900), _run(900, 900), _run(5, 1), _run(6, 400), _run(700, 2), _run(7, 3)]

    assert typical_run(runs) == [("/neck/Conv", 6.5), ("/neck/Relu", 2.5)]


@pytest.mark.parametrize(
    "runs",
    [[], [_run(1, 1)] * 2, [[]] * 4, [_run(1, 1)] * 3 + [_run(1, 1, first="/head/Conv")], [_run(1, 1)] * 3 + [[]]],
    ids=["none", "warm-up alone", "no operators", "another name", "fewer operators"],
)
def test_runs_that_are_not_alike_are_refused(runs: list[Operators]) -> None:
    with pytest.raises(ValueError):
        typical_run(runs)
