from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.search.surrogate.features import Features
from smnas_optuna.search.surrogate.observations import Observation
from smnas_optuna.search.surrogate.proposal import MIN_TRAINED, TIMED, Ranking
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import TrialRecord, read_record

SIZES, WIDTHS = ("64x64", "96x96", "128x128", "160x160"), (8, 12, 16, 24, 32)
ALL = [decode(f"{size}.resnet18-w{width}.fpn-p2-p5-c32.rpn.fc-w64") for size in SIZES for width in WIDTHS]


def ap_of(spec: DetectorSpec) -> float:
    """Larger inputs pay; width pays little."""
    return 0.1 * SIZES.index(str(spec.input_size)) + 0.01 * WIDTHS.index(spec.backbone.width) + 0.1


def latency_of(spec: DetectorSpec) -> float:
    """Width costs a lot; size costs little."""
    return 1.0 + 0.2 * SIZES.index(str(spec.input_size)) + WIDTHS.index(spec.backbone.width)


def trained(
    spec: DetectorSpec, ap: Callable[[DetectorSpec], float] = ap_of, *, gate: float | None = None
) -> TrialRecord:
    attrs = {"arch": encode(spec), **({} if gate is None else {"gate": {"ratio": gate}})}
    return read_record(create_trial(values=(latency_of(spec), ap(spec)), user_attrs=attrs))


def running(spec: DetectorSpec) -> TrialRecord:
    return read_record(create_trial(state=TrialState.RUNNING, user_attrs={"arch": encode(spec)}))


def ranking(
    *,
    limits: Limits | None = None,
    time_gate: Callable[[DetectorSpec], float] | None = None,
    earlier: list[Observation] | None = None,
) -> Ranking:
    return Ranking(
        Features(), ap_spread=0.005, limits=limits or Limits(), time_gate=time_gate, earlier=lambda: earlier or []
    )


def split(seed: int, count: int = 8) -> tuple[list[DetectorSpec], list[DetectorSpec]]:
    order = np.random.default_rng(seed).permutation(len(ALL))
    return [ALL[place] for place in order[:count]], [ALL[place] for place in order[count:]]


@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_found_in_a_few_proposals(seed: int) -> None:
    """It is the narrowest backbone at every size: four of twenty."""
    known, left = split(seed)
    chooser, front = ranking(), {spec for spec in ALL if spec.backbone.width == WIDTHS[0]}
    for _ in range(6):
        chosen = chooser.choose(left, [trained(spec) for spec in known])
        assert chosen is not None
        known, left = [*known, chosen], [spec for spec in left if spec != chosen]

    assert front <= set(known)


def test_the_best_few_are_timed_and_the_timings_decide() -> None:
    known, left = split(0)
    records = [trained(spec, gate=2 * latency_of(spec)) for spec in known]
    timed: list[DetectorSpec] = []

    def time_gate(spec: DetectorSpec) -> float:
        timed.append(spec)
        return 2 * latency_of(spec) if len(timed) == 3 else 1e3

    chooser = ranking(time_gate=time_gate)
    chosen = chooser.choose(left, records)

    assert len(timed) == len(set(timed)) == TIMED
    assert chosen == timed[2], "all others have turned out to be slow"
    before = len(timed)
    chooser.choose([timed[0], timed[2]], records)
    assert len(timed) == before, "a timing is remembered"


def test_what_cannot_be_timed_keeps_its_prediction() -> None:
    known, left = split(0)

    def broken(spec: DetectorSpec) -> float:
        raise RuntimeError("no memory")

    records = [trained(spec) for spec in known]
    assert ranking(time_gate=broken).choose(left, records) == ranking().choose(left, records)


def test_a_training_in_flight_is_taken_as_done() -> None:
    known, left = split(1)
    wide = decode("64x64.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w512")  # so that the twins are near each other
    records = [trained(spec) for spec in [*known, wide]]
    first = ranking().choose(left, records)
    assert first is not None
    twin = decode(encode(first).replace("fc-w64", "fc-w68"))

    alone = ranking().choose([twin, *left], records)
    assert alone in (first, twin), "nothing is better"
    second = ranking().choose([twin, *(spec for spec in left if spec != first)], [*records, running(first)])
    assert second not in (first, twin), "one that is almost the same gains nothing more"


def test_limits_bound_what_is_proposed() -> None:
    known, left = split(2)
    records = [trained(spec) for spec in known]
    features = Features()
    most = sorted(features.work(spec).num_params for spec in left)[4]

    fast = ranking(limits=Limits(max_latency_ms=1.5)).choose(left, records)
    small = ranking(limits=Limits(max_params=most)).choose(left, records)

    assert fast is not None
    assert latency_of(fast) <= 1.5
    assert small is not None
    assert features.work(small).num_params <= most
    assert ranking(limits=Limits(max_params=1)).choose(left, records) is None


@pytest.mark.parametrize("count", range(MIN_TRAINED))
def test_of_too_few_trainings_nothing_is_predicted(count: int) -> None:
    known, left = split(0)
    assert ranking().choose(left, [trained(spec) for spec in known[:count]]) is None


def test_if_every_ap_is_the_same_nothing_is_predicted() -> None:
    known, left = split(0)
    assert ranking().choose(left, [trained(spec, lambda _: 0.0) for spec in known]) is None


def test_without_candidates_there_is_no_choice() -> None:
    assert ranking().choose([], [trained(spec) for spec in ALL]) is None


def test_if_nothing_can_keep_the_limit_there_is_no_choice() -> None:
    known, left = split(0)
    records = [trained(spec, gate=latency_of(spec)) for spec in known]

    assert ranking(limits=Limits(max_latency_ms=1e-6), time_gate=latency_of).choose(left, records) is None


def test_other_tasks_alone_are_not_enough() -> None:
    earlier = [Observation(spec=spec, latency_ms=1.0, ap=ap_of(spec), task="elsewhere") for spec in ALL[:10]]

    assert ranking(earlier=earlier).choose(ALL[10:], []) is None


def test_a_failed_fit_is_no_choice() -> None:
    known, left = split(0)
    records = [trained(spec) for spec in known]
    bad = Observation(spec=known[0], latency_ms=1.0, ap=float("nan"), task="elsewhere")

    assert ranking().choose(left, records) is not None
    assert ranking(earlier=[bad]).choose(left, records) is None


def test_another_task_teaches_in_spite_of_its_offset() -> None:
    """The own trainings are all of one size; the other task has seen what size does, at another level of AP."""
    small, *_, large = (spec for spec in ALL if spec.backbone.width == WIDTHS[2])
    known = [spec for spec in ALL if str(spec.input_size) == SIZES[0] and spec != small]
    earlier = [Observation(spec=s, latency_ms=1.0, ap=0.1 + 0.5 * ap_of(s), task="elsewhere") for s in ALL]
    against = [
        Observation(spec=s, latency_ms=1.0, ap=0.4 + ap_of(s) - 0.15 * SIZES.index(str(s.input_size)), task="elsewhere")
        for s in ALL
    ]
    records = [trained(spec, gate=latency_of(spec)) for spec in known]
    limits = Limits(max_latency_ms=3.65)  # the large one takes 3.6, so that it has to be a lot better

    def chosen(foreign: list[Observation]) -> DetectorSpec | None:
        return ranking(earlier=foreign, time_gate=latency_of, limits=limits).choose([small, large], records)

    assert chosen(earlier) == large
    assert chosen(against) == small


def test_the_start_is_spread_out() -> None:
    near, far = ALL[1], ALL[-1]
    records = [trained(ALL[0]), running(ALL[2])]

    assert ranking().farthest([near, far], records) == far
    assert ranking().farthest([near, far], [trained(ALL[-2]), trained(ALL[-6])]) == near
    assert ranking().farthest([near, far], []) in (near, far)


def test_many_trainings_do_not_stop_a_proposal() -> None:
    random = np.random.default_rng(0)
    specs = {
        decode(f"{32 * a + 64}x{32 * b + 64}.resnet{d}-w{4 * w}.fpn-p{p}-p5-c{8 * c}.rpn.fc-w64")
        for a, b, d, w, p, c in zip(
            *(random.integers(low, high, 4000) for low, high in ((4, 9), (0, 4))),
            random.choice([18, 34, 50], 4000),
            *(random.integers(low, high, 4000) for low, high in ((2, 12), (2, 4), (2, 12))),
            strict=True,
        )
    }
    ordered = sorted(specs, key=encode)[:1400]
    records = [
        read_record(
            create_trial(
                values=(1.0 + random.random(), 0.1 + 0.3 * random.random()),
                user_attrs={"arch": encode(spec), "gate": {"ratio": 1.0 + random.random()}},
            )
        )
        for spec in ordered[:1000]
    ]
    chooser = ranking()
    chooser.choose(ordered[1000:], records)
    start = time.process_time()

    chooser.choose(ordered[1000:], records)

    # It takes some 0.5 s on a quiet machine (benchmarks/bookkeeping.py); to learn from all trainings takes minutes.
    assert time.process_time() - start < 10


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_candidates_are_timed_only_where_that_is_worth_its_time() -> None:
    known, left = split(0)
    records = [trained(spec, gate=2 * latency_of(spec)) for spec in known]
    timed, seen = list[DetectorSpec](), list[int]()

    def time_gate(spec: DetectorSpec) -> float:
        timed.append(spec)
        return 2 * latency_of(spec)

    def is_worth(answer: bool, given: Sequence[TrialRecord]) -> bool:
        seen.append(len(given))
        return answer

    for worth in (False, True):
        chooser = Ranking(
            Features(),
            ap_spread=0.005,
            limits=Limits(),
            time_gate=time_gate,
            worth_timing=partial(is_worth, worth),
        )
        assert chooser.choose(left, records) is not None
        assert bool(timed) == worth
    assert seen == [len(records)] * 2


def test_gains_are_of_each_candidate_within_the_limits_and_without_the_noise_of_a_training() -> None:
    known, left = split(0, 12)
    records = [trained(spec) for spec in known]
    gains = ranking().gains(left, records)
    assert gains is not None
    assert gains.shape == (len(left),)

    best = ranking().choose(left, records)
    assert best is not None
    assert gains[left.index(best)] > 0.5 * gains.max(), "what is chosen is among those that gain most"

    counts = Features()
    most = sorted(counts.work(spec).num_params for spec in ALL)[len(ALL) // 2]
    limited = ranking(limits=Limits(max_params=most)).gains(left, records)
    assert limited is not None
    over = [counts.work(spec).num_params > most for spec in left]
    assert any(over)
    assert all(gain == 0 for gain, beyond in zip(limited, over, strict=True) if beyond)

    noisy = [Ranking(Features(), ap_spread=spread, limits=Limits()).gains(left, records) for spread in (0.005, 0.1)]
    assert noisy[0] is not None
    assert noisy[1] is not None
    assert noisy[1].max() < 5 * noisy[0].max(), "the noise alone would gain ten times as much"


def test_what_is_believed_gains_little_and_too_little_gains_nothing() -> None:
    known, left = split(0, 12)
    records = [trained(spec) for spec in known]
    gains = ranking().gains(left, records)
    assert gains is not None
    best = left[int(np.argmax(gains))]

    after = ranking().gains(left, records, [best])
    assert after is not None
    assert after[left.index(best)] < 0.5 * gains.max()
    assert ranking().gains(left, records[: MIN_TRAINED - 1]) is None
    assert ranking().gains([], records) is None
