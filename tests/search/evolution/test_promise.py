from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.trial import create_trial

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import ModularSpace
from smnas_optuna.search.evolution.promise import PromisingParents, architectures_around, promises
from smnas_optuna.search.surrogate.proposal import Ranking
from smnas_optuna.search_space import ModularSearchSpace
from smnas_optuna.study.record import TrialRecord, read_record

PARENT = decode("64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w64")
SPACE = ModularSearchSpace(ModularSpace(base_channels=(8, 12), max_blocks=10), PARENT)
A, B, C, D = (decode(f"64x48.resnet18-w{width}.fpn-p2-p5-c32.rpn.fc-w64") for width in (8, 12, 16, 24))


class Fake:
    """Gains are given, and only once: what is believed to be trained gains no more."""

    def __init__(self, gains: dict[DetectorSpec, float] | None) -> None:
        self._gains = gains

    def gains(
        self, candidates: Sequence[DetectorSpec], records: Sequence[TrialRecord], believed: Sequence[DetectorSpec] = ()
    ) -> NDArray[np.float64] | None:
        if self._gains is None or not candidates:
            return None
        return np.array([0.0 if spec in believed else self._gains[spec] for spec in candidates])


def fake(gains: dict[DetectorSpec, float] | None) -> Ranking:
    return cast("Ranking", Fake(gains))


@pytest.mark.parametrize(
    ("gains", "prospects", "promised"),
    [
        ({A: 1.0, B: 3.0, C: 2.0}, [[A, B], [C]], [3.0, 2.0]),
        ({A: 1.0, B: 3.0, C: 2.0}, [[A], [], [B, C]], [1.0, 0.0, 3.0]),
        ({A: 0.0, B: 0.0}, [[A], [B]], None),
        (None, [[A], [B]], None),
        ({}, [[], []], None),
    ],
    ids=["the best of each", "one without any", "nobody gains", "nothing can be said", "no prospects"],
)
def test_the_promise_of_a_study_is_its_best_prospect(
    gains: dict[DetectorSpec, float] | None, prospects: list[list[DetectorSpec]], promised: list[float] | None
) -> None:
    assert promises(fake(gains), prospects, []) == promised


def test_what_a_parent_will_find_is_no_promise_of_the_next() -> None:
    around = {"one": [A, B], "two": [A], "three": [C]}
    parents = PromisingParents(fake({A: 9.0, B: 1.0, C: 2.0}), around, [])

    assert parents(["one", "two", "three"]) == "one"
    assert parents(["two", "three"]) == "three", "A is found around the first one already"
    assert parents(["two"]) is None


def test_what_is_known_is_no_prospect() -> None:
    known = read_record(create_trial(values=(1.0, 0.5), user_attrs={"arch": encode(A)}))

    assert PromisingParents(fake({A: 9.0, C: 2.0}), {"one": [A], "two": [C]}, [known])(["one", "two"]) == "two"


def test_architectures_around_a_parent_are_of_its_space_and_not_the_parent() -> None:
    around = architectures_around(SPACE, PARENT, seed=0)

    assert len(set(around)) == len(around) > 30
    assert PARENT not in around
    assert all(SPACE.express(SPACE.genome(spec)) == spec for spec in around)
    assert around == architectures_around(SPACE, PARENT, seed=0) != architectures_around(SPACE, PARENT, seed=1)
