"""ONNX Runtime's profile of a session, a JSON list of events.

The time of an operator has that of writing down its shapes, some 2 us, which the profile spends itself. A small
detector has hundreds of operators that do next to nothing and take no more than that, and would seem to spend half its
time there. So what the quickest tenth of the operators takes is subtracted from all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smnas_optuna.runtime.names import Operators
from smnas_optuna.runtime.operators import typical_run

_KERNEL, _RUN = "_kernel_time", "model_run"
"""End of the name of an operator's event, and the name of a run's. A run's event follows those of its operators."""


def profiled_run(path: Path, num_runs: int) -> Operators:
    """Return the times of the operators in a typical run of a session.

    Args:
        path: The profile.
        num_runs: Runs of the session.

    Raises:
        ValueError: If the profile has another form, or not the same operators in every run.
        OSError: If it cannot be read.
    """
    events = json.loads(path.read_bytes())
    try:
        runs = _runs(events)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("this is no profile of ONNX Runtime") from error
    if len(runs) != num_runs:
        raise ValueError(f"a profile of {len(runs)} runs in the place of {num_runs}")
    operators = typical_run(runs)
    own = sorted(us for _, us in operators)[len(operators) // 10]
    return [(name, max(0.0, us - own)) for name, us in operators]


def _runs(events: Any) -> list[list[tuple[str, int]]]:
    runs, operators = list[list[tuple[str, int]]](), list[tuple[str, int]]()
    for event in events:
        name: str = event["name"]
        if event["cat"] == "Node" and name.endswith(_KERNEL):
            operators.append((name.removesuffix(_KERNEL), int(event["dur"])))
        elif name == _RUN:
            runs.append(operators)
            operators = []
    return runs
