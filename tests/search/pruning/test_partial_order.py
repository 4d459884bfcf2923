from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import decode, encode
from smnas_optuna.arch.order import contains
from smnas_optuna.search.pruning.partial_order import NOISE, find_witnesses, prune_dominated
from smnas_optuna.study.attributes import RANKED
from smnas_optuna.study.optuna_private import store_attr_of_stored
from smnas_optuna.study.record import TrialRecord, read_record

HEADS = "fpn-p2-p5-c8.rpn.fc-w16"
SMALL, MIDDLE, BIG = (f"64x48.{backbone}.{HEADS}" for backbone in ("resnet18-w4", "resnet18-w8", "resnet34-w8"))
OTHER = f"64x48.resnet50-w4.{HEADS}"
"""Neither is in the other and one of the three above."""


def trained(arch: str, ap: float, gate: float, *, latency_ms: float = 1.0) -> TrialRecord:
    return read_record(create_trial(values=(latency_ms, ap), user_attrs={"arch": arch, "gate": {"ratio": gate}}))


def witnesses(arch: str, gate: float, records: Sequence[TrialRecord], spread: float = 0.0) -> tuple[str, ...] | None:
    found = find_witnesses(decode(arch), gate, records, spread)
    return None if found is None else tuple(str(record.arch) for record in found)


def test_one_that_contains_it_and_a_faster_one_that_is_more_accurate_tell() -> None:
    assert contains(decode(BIG), decode(MIDDLE))

    assert witnesses(MIDDLE, 2.0, [trained(BIG, 0.25, 3.0), trained(OTHER, 0.5, 1.0)]) == (BIG, OTHER)


@pytest.mark.parametrize(
    ("big", "fast"),
    [
        (trained(SMALL, 0.25, 3.0), trained(OTHER, 0.5, 1.0)),
        (trained(BIG, 0.25, 3.0), trained(OTHER, 0.125, 1.0)),
        (trained(BIG, 0.25, 3.0), trained(OTHER, 0.5, 2.0)),
        (trained(BIG, 0.25, 3.0), trained(OTHER, 0.5, 2.5)),
    ],
    ids=["not contained", "less accurate", "as fast", "slower"],
)
def test_otherwise_nobody_tells(big: TrialRecord, fast: TrialRecord) -> None:
    assert witnesses(MIDDLE, 2.0, [big, fast]) is None


def test_one_that_exceeds_a_limit_tells_nothing() -> None:
    beyond = replace(trained(OTHER, 0.5, 1.0), feasible=False)

    assert witnesses(MIDDLE, 2.0, [trained(BIG, 0.25, 3.0), beyond]) is None
    assert witnesses(MIDDLE, 2.0, [replace(trained(BIG, 0.25, 3.0), feasible=False), trained(OTHER, 0.5, 1.0)])


@pytest.mark.parametrize("records", [[], [trained(BIG, 0.25, 3.0)], [trained(OTHER, 0.5, 1.0)]])
def test_it_takes_two(records: list[TrialRecord]) -> None:
    assert witnesses(MIDDLE, 2.0, records) is None


def test_a_faster_one_that_contains_it_tells_by_itself() -> None:
    assert witnesses(MIDDLE, 2.0, [trained(BIG, 0.25, 1.0)]) == (BIG, BIG)
    assert witnesses(MIDDLE, 2.0, [trained(BIG, 0.25, 1.0)], spread=0.01) is None, "by no more than the spread"


@pytest.mark.parametrize(
    "big",
    [
        f"64x48.resnet50-w8.{HEADS}",
        f"64x48.basicblock-w8-111-2111-211111-211.{HEADS}",
        "64x48.resnet34-w8.fpn-p2-p6-c8.rpn.fc-w16",
        "64x48.resnet34-w8.fpn-p2-p5-c8.ga.fc-w16",
        "64x48.resnet34-w8.fpn-p2-p5-c8.rpn.cascade2-w16",
        "64x48.resnet34-w8.fpn-p2-p5-c8.none.retina",
        "64x48.resnet34-w8.c4.rpn.fc",
    ],
    ids=["block", "written out", "levels", "RPN", "head", "one-stage", "no pyramid"],
)
def test_what_is_of_another_kind_tells_nothing_of_it(big: str) -> None:
    assert witnesses(MIDDLE, 2.0, [trained(big, 0.25, 3.0), trained(OTHER, 0.5, 1.0)]) is None


@pytest.mark.parametrize(
    ("gate", "told"),
    [(1.0, True), (2.0 * (1 - NOISE) - 1e-9, True), (2.0 * (1 - NOISE), False), (1.99, False)],
    ids=["far", "just beyond the noise", "as far as the noise", "within the noise"],
)
def test_the_faster_one_is_so_beyond_the_noise(gate: float, told: bool) -> None:
    assert (witnesses(MIDDLE, 2.0, [trained(BIG, 0.25, 3.0), trained(OTHER, 0.5, gate)]) is not None) == told


@pytest.mark.parametrize(("spread", "told"), [(0.0, True), (0.125, True), (0.25, True), (0.251, False), (1.0, False)])
def test_the_faster_one_is_more_accurate_by_the_spread_at_least(spread: float, told: bool) -> None:
    assert (witnesses(MIDDLE, 2.0, [trained(BIG, 0.25, 3.0), trained(OTHER, 0.5, 1.0)], spread) is not None) == told


def test_of_several_the_most_accurate_and_the_least_accurate_tell() -> None:
    larger = f"96x72.resnet34-w8.{HEADS}"
    records = [
        *(trained(BIG, 0.25, 3.0), trained(larger, 0.375, 4.0), trained(MIDDLE, 0.3125, 2.0)),
        *(trained(OTHER, 0.5, 1.0), trained(SMALL, 0.4375, 1.0)),
        trained(f"96x72.resnet50-w4.{HEADS}", 0.75, 1.95),
    ]

    for order in itertools.permutations(records):
        assert witnesses(MIDDLE, 2.0, order) == (BIG, OTHER)


SPACE = [
    decode(f"{size}.{backbone}.fpn-p2-p5-c{channels}.rpn.{head}")
    for size in ("64x48", "96x72")
    for backbone in (
        *("resnet18-w4", "resnet18-w8", "resnet34-w8", "resnet50-w8"),
        *("basicblock-w4-11-21-21-21", "basicblock-w4-21-21-21-11", "basicblock-w8-111-21-21-21"),
    )
    for channels, head in ((8, "fc-w16"), (12, "fc-w16"), (12, "fc-w24"), (8, "cascade2-w16"))
]
ARCHS = [encode(spec) for spec in SPACE]
PARTS = [[i for i, small in enumerate(SPACE) if contains(big, small)] for big in SPACE]
"""For each place of ``SPACE``, the places of what it contains."""

steps = st.lists(st.integers(0, 7), min_size=len(SPACE), max_size=len(SPACE))
orders = st.permutations(range(len(SPACE)))


def no_less_than_parts(values: Sequence[float]) -> list[float]:
    """The least values of a landscape that obeys the partial order, none less than it is in ``values``."""
    return [max(values[part] for part in parts) for parts in PARTS]


def visit(order: Sequence[int], aps: Sequence[float], gates: Sequence[float], spread: float) -> list[int]:
    """What is trained if the places of ``SPACE`` are asked in ``order``, and pruned if there are witnesses."""
    records: dict[int, TrialRecord] = {}
    for place in order:
        if find_witnesses(SPACE[place], gates[place], records.values(), spread) is None:
            records[place] = replace(TEMPLATE, arch=ARCHS[place], ap=aps[place], gate_ratio=gates[place])
    return list(records)


TEMPLATE = trained(SMALL, 0.0, 1.0)


def on_front(aps: Sequence[float], gates: Sequence[float], places: Sequence[int]) -> set[int]:
    """Those of ``places`` that none of them dominates."""

    def dominates(a: int, b: int) -> bool:
        return aps[a] >= aps[b] and gates[a] <= gates[b] and (aps[a], gates[a]) != (aps[b], gates[b])

    return {place for place in places if not any(dominates(other, place) for other in places)}


def test_the_landscapes_have_an_order_to_obey() -> None:
    assert len(SPACE) == 56
    assert 2.5 < sum(map(len, PARTS)) / len(SPACE) < 10


@settings(max_examples=60, deadline=None)
@given(steps, steps, orders, st.sampled_from([0.0, 0.01, 0.1, 0.3]))
def test_where_the_partial_order_holds_no_point_of_the_front_is_lost(
    ap_steps: list[int], gate_steps: list[int], order: list[int], spread: float
) -> None:
    # ``fast`` is strictly faster, whatever NOISE is, and AP(fast) >= AP(big) + spread >= AP(big) >= AP(pruned), so that
    # what is pruned is dominated by something trained. Not only the points, but all architectures of the front are
    # trained, those at the same point included: for these the comparison must be strict. (Were it not, one of them
    # could be pruned for another; the points would be the same.) Gates need not obey the order.
    aps = no_less_than_parts([0.1 * step for step in ap_steps])
    gates = no_less_than_parts([1.02**step for step in gate_steps])
    done = visit(order, aps, gates, spread)

    front = on_front(aps, gates, range(len(SPACE)))
    assert front <= set(done)
    assert on_front(aps, gates, done) == front


@settings(max_examples=60, deadline=None)
@given(steps, steps, orders, st.sampled_from([0.01, 0.1]), st.data())
def test_nor_where_what_is_measured_is_off_by_half_of_the_noise_and_of_the_spread(
    ap_steps: list[int], gate_steps: list[int], order: list[int], spread: float, data: st.DataObject
) -> None:
    signs = st.lists(st.sampled_from([-1, 0, 1]), min_size=len(SPACE), max_size=len(SPACE))
    ap_signs, gate_signs = data.draw(signs), data.draw(signs)
    aps = no_less_than_parts([0.1 * step for step in ap_steps])
    gates = no_less_than_parts([1.02**step for step in gate_steps])
    measured_aps = [ap + 0.499 * sign * spread for ap, sign in zip(aps, ap_signs, strict=True)]
    measured_gates = [gate * (1 + 0.499 * sign * NOISE) for gate, sign in zip(gates, gate_signs, strict=True)]

    done = visit(order, measured_aps, measured_gates, spread)

    assert on_front(aps, gates, range(len(SPACE))) <= set(done)


@settings(max_examples=30, deadline=None)
@given(steps, steps, orders, st.sampled_from([0.0, 0.1]), st.integers(1, len(SPACE) - 1))
def test_there_are_witnesses_exactly_if_some_two_of_the_trained_are(
    ap_steps: list[int], gate_steps: list[int], order: list[int], spread: float, count: int
) -> None:
    # No order is obeyed here. Eighths, so that sums are exact.
    aps, gates, margin = [step / 8 for step in ap_steps], [1.02**step for step in gate_steps], 1.25 * spread
    done, new = order[:count], order[count]
    records = [replace(TEMPLATE, arch=ARCHS[i], ap=aps[i], gate_ratio=gates[i]) for i in done]
    pairs = {
        (ARCHS[big], ARCHS[fast])
        for big, fast in itertools.product(done, repeat=2)
        if new in PARTS[big] and gates[fast] < gates[new] * (1 - NOISE) and aps[fast] >= aps[big] + margin
    }

    found = witnesses(ARCHS[new], gates[new], records, margin)

    assert (found is not None) == bool(pairs)
    assert found is None or found in pairs


@pytest.mark.parametrize(("spread", "needed"), [(0.0, 2), (0.001, 10)])
def test_where_size_brings_nothing_a_small_and_a_large_one_are_enough(spread: float, needed: int) -> None:
    chain = [decode(f"64x48.basicblock-w{4 + i}-11-21-21-21.{HEADS}") for i in range(10)]
    records: list[TrialRecord] = []
    for i in (0, 9, *range(1, 9)):
        if find_witnesses(chain[i], 1.1**i, records, spread) is None:
            records.append(trained(encode(chain[i]), 0.5, 1.1**i))

    assert len(records) == needed


KNOWN = [trained(BIG, 0.25, 3.0, latency_ms=30.0), trained(OTHER, 0.5, 1.0, latency_ms=10.0)]
DOMINATED = (
    f"no better than {BIG} (AP 0.2500), which contains it, and slower than {OTHER} "
    "(AP 0.5000; gate latency 1.0000 against 2.0000)"
)


def test_what_is_sure_not_to_come_onto_the_front_is_pruned_with_both_witnesses() -> None:
    trial = optuna.create_study().ask()

    with pytest.raises(optuna.TrialPruned) as pruned:
        prune_dominated(trial, decode(MIDDLE), 2.0, KNOWN, 0.0)

    assert (str(pruned.value), trial.user_attrs) == (DOMINATED, {"dominated_by": [BIG, OTHER]})


@pytest.mark.parametrize(("gate", "spread"), [(1.0, 0.0), (2.0, 0.3)], ids=["fast", "spread"])
def test_what_may_come_onto_the_front_is_trained(gate: float, spread: float) -> None:
    trial = optuna.create_study().ask()

    prune_dominated(trial, decode(MIDDLE), gate, KNOWN, spread)

    assert trial.user_attrs == {}


def untold(number: int, **attrs: Any) -> list[TrialRecord]:
    """``KNOWN``, of which one has not been trained itself, or has no gate latency."""
    own = {"arch": KNOWN[number].arch, "gate": {"ratio": KNOWN[number].gate_ratio}, **attrs}
    state = TrialState.FAIL if "reason" in attrs else TrialState.COMPLETE
    values = None if "reason" in attrs else (10.0, KNOWN[number].ap or 0.0)
    records = list(KNOWN)
    records[number] = read_record(create_trial(state=state, values=values, user_attrs=own))
    return records


@pytest.mark.parametrize("number", [0, 1], ids=["big", "fast"])
@pytest.mark.parametrize("attrs", [{"cached_from": 3}, {"reason": "x"}], ids=["cached", "failed"])
def test_witnesses_are_trained_themselves(number: int, attrs: dict[str, Any]) -> None:
    assert witnesses(MIDDLE, 2.0, untold(number, **attrs)) is None


def test_who_is_called_faster_has_a_gate_latency_and_who_is_called_larger_needs_none() -> None:
    assert witnesses(MIDDLE, 2.0, untold(1, gate={})) is None
    assert witnesses(MIDDLE, 2.0, untold(0, gate={})) == (BIG, OTHER)


@pytest.mark.parametrize("ranked", [True, False])
def test_what_the_surrogate_chose_is_trained(ranked: bool) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    trial = study.ask()
    if ranked:  # stored by the sampler, after the trial object was made
        store_attr_of_stored(study, study.trials[0], RANKED, True)
    known = [trained(BIG, 0.25, 3.0), trained(OTHER, 0.5, 1.0)]

    with nullcontext() if ranked else pytest.raises(optuna.TrialPruned):
        prune_dominated(trial, decode(MIDDLE), 2.0, known, 0.0)

    assert ("dominated_by" in study.trials[0].user_attrs) == (not ranked)
