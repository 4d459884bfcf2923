"""Records of trials that earlier versions stored under other spellings of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from smnas_optuna.arch import decode
from smnas_optuna.search.pruning.partial_order import find_witnesses
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_record, read_records
from smnas_optuna.study.settled import known_results

OLD, NEW = (f"64x48.{backbone}.c4.rpn.fc" for backbone in ("basicblock-w8-conv7-11-21-21-21", "resnet18-w8"))


def trial(arch: object, attrs: Mapping[str, Any] | None = None, ap: float = 0.5) -> FrozenTrial:
    return create_trial(values=(1.0, ap), user_attrs={"arch": arch, **(attrs or {})})


def test_a_record_has_the_canonical_string_and_the_stored_one() -> None:
    record = read_record(trial(OLD))

    assert (record.arch, record.stored_arch) == (NEW, OLD)
    assert (read_record(trial(NEW)).arch, read_record(trial(NEW)).stored_arch) == (NEW, NEW)


@pytest.mark.parametrize("arch", ["no architecture", "../..", None, 3, ["a"], {"a": 1}])
def test_what_names_no_architecture_is_foreign(arch: object) -> None:
    record = read_record(trial(arch))

    assert (record.arch, record.foreign, record.trained) == (None, "arch", False)


def test_a_trial_without_architecture_has_none() -> None:
    record = read_record(create_trial(state=TrialState.FAIL))

    assert (record.arch, record.stored_arch) == (None, None)


def test_what_was_trained_under_another_spelling_is_known() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(trial(OLD))

    assert set(known_results(read_records(study), Limits())) == {NEW}


def test_the_gate_compares_classic_and_written_out_networks() -> None:
    big = read_record(trial(NEW, {"gate": {"ratio": 2.0}}, ap=0.2))
    fast = read_record(trial("64x48.resnet50-w8.c4.rpn.fc", {"gate": {"ratio": 0.5}}, ap=0.5))
    smaller = decode("64x48.basicblock-w8-conv7-11-21-21-2.c4.rpn.fc")

    assert find_witnesses(smaller, 1.0, [big, fast], 0.01) == (big, fast)
