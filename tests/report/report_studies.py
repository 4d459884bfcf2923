"""Small studies as a search would leave them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState, create_trial

FAST = "128x96.resnet18-w8.fpn-p3-p5-c32.none.retina"
MIDDLE = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"
STRONG = "1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"
POOR = "160x128.resnet34-w16.fpn-p2-p5-c64.rpn.fc-w256"
DEVICE = {"kind": "cpu", "model": "Intel(R) Xeon(R) CPU @ 2.20GHz", "threads": 2}


def add_trial(study: Study, values: tuple[float, float] | None, state: TrialState, **attrs: Any) -> None:
    study.add_trial(create_trial(state=state, values=values, user_attrs=attrs))


def fill(study: Study) -> Study:
    """Trials 0 to 7: three of the front (0, 2 and 3), one dominated, and one each cached, pruned, failed, running."""
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
        latency=latency,
        weights=f"runs/{MIDDLE}",
    )
    add_trial(study, (30.0, 0.15), done, arch=POOR, generation=0)
    add_trial(study, (3.5, 0.0625), done, arch=FAST, generation=1, num_params=400_000, multiply_adds=2_000_000)
    add_trial(study, (140.0, 0.5), done, arch=STRONG, generation=1, num_params=41_000_000)
    add_trial(study, (3.5, 0.0625), done, arch=FAST, cached_from=2)
    add_trial(study, None, TrialState.PRUNED, arch=FAST, reason="over budget")
    add_trial(study, None, TrialState.FAIL, arch=POOR, reason="interrupted")
    add_trial(study, None, TrialState.RUNNING, arch=POOR)
    return study


def new_study(storage: str | None = None) -> Study:
    return optuna.create_study(study_name="structural", storage=storage, directions=["minimize", "maximize"])


def full_study() -> Study:
    return fill(new_study())
