from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from smnas_optuna.report.limits_note import limits_note
from smnas_optuna.study.attributes import LIMITS
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits


def _folder(path: Path, search: str, was: Limits | None) -> StudyFolder:
    """A study whose last search had the limits ``was``, with ``search`` in its study file."""
    arch = "64x48.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
    (path / "study.toml").write_text(f'[search]\nbaselines = ["{arch}"]\n{search}')
    folder = StudyFolder(path)
    study = folder.create("structural", optuna.samplers.NSGAIISampler())
    if was is not None:
        study.set_user_attr(LIMITS, was.as_json())
    return folder


@pytest.mark.parametrize(
    ("search", "was", "changed"),
    [
        ("max_latency_ms = 20", Limits(max_latency_ms=30.0), "max_latency_ms is 20, was 30"),
        ("max_latency_ms = 20.5", None, "max_latency_ms is 20.5, was none"),
        (
            "",
            Limits(max_latency_ms=30.0, max_params=1_000_000),
            "max_latency_ms is none, was 30; max_params is none, was 1,000,000",
        ),
        ("max_params = 2_000_000", Limits(max_params=1_000_000), "max_params is 2,000,000, was 1,000,000"),
    ],
)
def test_changed_limits_are_named(search: str, was: Limits | None, changed: str, tmp_path: Path) -> None:
    assert limits_note(_folder(tmp_path, search, was)) == (
        f"note: study.toml has other limits than this front: {changed}; the next search applies them"
    )


@pytest.mark.parametrize(
    ("search", "was"),
    [
        ("", None),
        ("", Limits()),
        ("max_latency_ms = 20", Limits(max_latency_ms=20.0)),
        ("max_seconds_per_trial = 20", Limits(max_seconds=30.0, pruning=False)),
        ("max_latency_ms = 0", Limits(max_latency_ms=20.0)),
    ],
    ids=["none", "none stored", "equal", "no limits of a front", "a wrong study file"],
)
def test_nothing_is_said_without_a_change(search: str, was: Limits | None, tmp_path: Path) -> None:
    assert limits_note(_folder(tmp_path, search, was)) is None


def test_nothing_is_said_without_a_study_or_a_study_file(tmp_path: Path) -> None:
    assert limits_note(StudyFolder(tmp_path)) is None

    folder = _folder(tmp_path, "", Limits(max_latency_ms=20.0))
    (tmp_path / "study.toml").unlink()
    assert limits_note(folder) is None
