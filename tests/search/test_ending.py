from __future__ import annotations

from dataclasses import replace

from optuna.trial import TrialState, create_trial

from smnas_optuna.search.ending import REPEATS_IN_A_ROW, stop_reason
from smnas_optuna.study.record import TrialRecord, read_record

ARCH = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


def record(state: TrialState = TrialState.PRUNED, **attrs: object) -> TrialRecord:
    values = (1.0, 0.5) if state == TrialState.COMPLETE else None
    return read_record(create_trial(state=state, values=values, user_attrs={"arch": ARCH, **attrs}))


def test_a_search_whose_proposals_are_all_known_elsewhere_ends() -> None:
    trained, repeat = record(TrialState.COMPLETE), record(cached_from=1, cached_study="modular/x", reason="a repeat")
    running = replace(record(), state="running")
    almost = [trained, *[repeat] * (REPEATS_IN_A_ROW - 1), running]

    assert stop_reason(almost, {}, 10**6, 10**6, 0, {ARCH}) is None
    ended = stop_reason([*almost, repeat], {}, 10**6, 10**6, 0, {ARCH})
    assert ended is not None
    assert ended.reason == "space exhausted: 100 times in a row a known architecture was asked for"
    assert stop_reason([*almost, repeat, trained], {}, 10**6, 10**6, 0, {ARCH}) is None
