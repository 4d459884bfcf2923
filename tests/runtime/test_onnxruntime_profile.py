from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.runtime.onnxruntime_profile import profiled_run

RUN = {"cat": "Session", "name": "model_run", "dur": 99}


def _operator(name: str, us: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us}


def _written(folder: Path, content: Any) -> Path:
    path = folder / "profile.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_median_of_the_runs_after_the_warm_up_counts_without_the_profiles_own_time(tmp_path: Path) -> None:
    events: list[Any] = [{"cat": "Session", "name": "session_initialization", "dur": 1}]
    for us in (900, 900, 10, 40, 12):
        events += [_operator("/neck/Conv", us), _operator("/neck/Reshape", 3)]
        events += [{"cat": "Node", "name": "/neck/Conv_fence_before", "dur": 7}, RUN]

    assert profiled_run(_written(tmp_path, events), 5) == [("/neck/Conv", 9.0), ("/neck/Reshape", 0.0)]


@pytest.mark.parametrize(
    "content",
    [
        "",
        '[{"cat": "Node"',
        "1",
        "null",
        [1, 2],
        [{"cat": "Node"}],
        [{"cat": "Node", "name": "a_kernel_time"}, RUN],
        [{"cat": "Node", "name": "a_kernel_time", "dur": None}, RUN],
        [],
        [RUN] * 3,
        [_operator("a", 1), RUN] * 2,
        [_operator("a", 1), RUN, _operator("a", 1), RUN, _operator("b", 1), RUN],
        [_operator("a", 1), RUN, _operator("a", 1), RUN, _operator("a", 1), _operator("a", 1), RUN],
    ],
)
def test_a_profile_of_another_form_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        profiled_run(_written(tmp_path, content), 3)
