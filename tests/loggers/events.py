"""The events of a short search with one trial, and of a training of its architecture."""

from __future__ import annotations

import math
from datetime import datetime

from smnas_optuna.api import Trial
from smnas_optuna.api.events import EpochEnded, Evaluated, Event, Note, TrainingEnded, TrialEnded, TrialStarted

ARCH = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
TRIAL = Trial(
    number=4,
    stage="structural",
    study="structural",
    state="complete",
    arch=ARCH,
    latency_ms=7.5,
    latency_low_ms=7.0,
    latency_high_ms=8.0,
    precise=True,
    ap=0.5,
    ap50=0.75,
    ap75=math.nan,
    ap_small=0.0,
    ap_medium=0.0,
    ap_large=0.0,
    on_front=True,
    baseline=False,
    feasible=True,
    num_params=9,
    multiply_adds=9,
    epochs=2,
    seconds=9.0,
    reason=None,
    cached_from=None,
    generation=0,
    ended=datetime(2026, 1, 1),
    run_folder=None,
)


def epoch_ended(epoch: int, loss: float, number: int | None = 4) -> Event:
    return EpochEnded(arch=ARCH, number=number, epoch=epoch, epochs=2, loss=loss, skipped_steps=0, seconds=1.0)


SEARCH: list[Event] = [
    Note(text="the search begins"),
    TrialStarted(number=4, arch=ARCH, why="baseline", done=0, budget=1),
    epoch_ended(1, 0.75),
    Evaluated(arch=ARCH, number=4, epoch=1, ap=0.25),
    epoch_ended(2, math.nan),
    TrialEnded(trial=TRIAL, done=1, budget=1),
]
TRAINING: list[Event] = [epoch_ended(1, 0.5, number=None), TrainingEnded(arch=ARCH, epoch=2, ap=0.6)]
SEARCHED = f"0004.{ARCH}"
