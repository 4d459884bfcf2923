"""Small studies as a search would leave them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import TrialState, create_trial

FAST = "128x96.resnet18-w8.fpn-p3-p5-c32.none.retina"
MIDDLE = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"
STRONG = "1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"
POOR = "160x128.resnet34-w16.fpn-p2-p5-c64.rpn.fc-w256"
SLIM = "128x96.basicblock-w16-1-12-21-2.fpn-p2-p5-c64.rpn.fc-w256"
DEEP = "1333x800.bottleneck-w64-12-11-121-211.fpn-p2-p6-c256.rpn.fc-w1024"
DEVICE = {"kind": "cpu", "model": "Intel(R) Xeon(R) CPU @ 2.20GHz", "threads": 2}
BEGIN = datetime(2025, 1, 1)


def add_trial(
    study: Study, values: tuple[float, float] | None, state: TrialState, *, minute: int | None = None, **attrs: Any
) -> None:
    """Add a trial with ``attrs`` to ``study``; it ended in that minute after ``BEGIN``, or now."""
    trial = create_trial(state=state, values=values, user_attrs=attrs)
    if minute is not None:
        trial.datetime_start, trial.datetime_complete = BEGIN, BEGIN + timedelta(minutes=minute)
    study.add_trial(trial)


PARTS = {"backbone": 0.5, "rpn": 0.125, "pooling": 0.125, "head": 0.125, "selection": 0.125}
OLD_GPU_RECORD = {"foreign_processes": 1, "foreign_load_percent": 0, "throttled": []}
"""As versions wrote it that counted the processes on the GPU."""


def fill(study: Study) -> Study:
    """Trials 0 to 8: the front (0, 2, 3), one dominated, one each cached, pruned, failed, interrupted and running."""
    done, metrics = TrialState.COMPLETE, {"ap": 0.2, "ap50": 0.4125, "ap75": 0.1, "ap_small": None, "ar1": float("nan")}
    study.set_user_attr("fingerprint", {"data": "0f", "device": DEVICE})
    study.set_user_attr("versions", {"torch": "2.14.0"})
    latency = {"ratio": 0.5, "median_ms": 12.5, "p10_ms": 12.0, "p90_ms": 13.0, "reference_median_ms": 25.0}
    add_trial(
        study,
        (12.25, 0.2),
        done,
        arch=MIDDLE,
        baseline=True,
        generation=0,
        num_params=1_234_567,
        multiply_adds=56_700_000,
        metrics=metrics,
        latency={**latency, "gpu": OLD_GPU_RECORD, "parts": PARTS},
        weights=f"runs/{MIDDLE}",
    )
    add_trial(study, (30.0, 0.15), done, arch=POOR, generation=0)
    add_trial(study, (3.5, 0.0625), done, arch=FAST, generation=1, num_params=400_000, multiply_adds=2_000_000)
    add_trial(study, (140.0, 0.5), done, arch=STRONG, generation=1, num_params=41_000_000)
    add_trial(study, (3.5, 0.0625), done, arch=FAST, cached_from=2)
    add_trial(study, None, TrialState.PRUNED, arch=FAST, reason="over budget")
    add_trial(study, None, TrialState.FAIL, arch=POOR, reason="DivergenceError: the loss is not finite")
    add_trial(study, None, TrialState.FAIL, arch=POOR, reason="interrupted")
    add_trial(study, None, TrialState.RUNNING, arch=POOR)
    return study


def new_study(storage: str | BaseStorage | None = None, name: str = "structural") -> Study:
    return optuna.create_study(study_name=name, storage=storage, directions=["minimize", "maximize"])


def full_study() -> Study:
    return fill(new_study())


def both_stages() -> list[Study]:
    """The full study, and two of stage 2: SLIM takes MIDDLE's place on the front of both, DEEP joins STRONG on it."""
    folder = InMemoryStorage()
    structural = fill(new_study(folder))
    slim, deep = (new_study(folder, f"modular/{parent}") for parent in (MIDDLE, STRONG))
    for study in (slim, deep):
        study.set_user_attr("fingerprint", {"device": DEVICE})
    add_trial(slim, (10.0, 0.25), TrialState.COMPLETE, arch=SLIM, weights=f"runs/{SLIM}")
    add_trial(slim, None, TrialState.FAIL, arch=SLIM, reason="interrupted")
    add_trial(deep, (150.0, 0.625), TrialState.COMPLETE, arch=DEEP)
    return [structural, slim, deep]


def timed_together(changes: Mapping[str, float]) -> list[Study]:
    """Both stages after the members of their fronts were timed in one run; ``changes``: what it found, in ms."""
    studies = both_stages()
    latencies_ms = {FAST: 3.5, MIDDLE: 12.25, STRONG: 140.0, SLIM: 10.0, DEEP: 150.0} | dict(changes)
    again = {arch: {"stored_ms": ms, "run": "2025-01-01T00:00:00+00:00"} for arch, ms in latencies_ms.items()}
    studies[0].set_user_attr("retimed", again)
    return studies


def with_recipes(*epochs: int) -> list[Study]:
    """Both stages, with the epochs of the recipes of their three studies."""
    studies = both_stages()
    for study, count in zip(studies, epochs, strict=True):
        fingerprint = {**study.user_attrs["fingerprint"], "recipe": {"train": {"epochs": count}}}
        study.set_user_attr("fingerprint", fingerprint)
    return studies
