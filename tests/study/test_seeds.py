from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.study.seeds import derive_seed


@given(st.lists(st.one_of(st.integers(), st.text()), min_size=1, max_size=4))
def test_seeds_depend_on_every_part_and_on_nothing_else(parts: list[int | str]) -> None:
    seed = derive_seed(*parts)

    assert 0 <= seed < 2**32
    assert seed == derive_seed(*parts)
    assert seed != derive_seed(*parts, "more")
    assert derive_seed(1, "1") != derive_seed("1", 1)
