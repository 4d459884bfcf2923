from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
import torch

from smnas_optuna.search.pruning.too_slow import prune_slow
from smnas_optuna.search.request import Request
from smnas_optuna.search.stages import run_search
from smnas_optuna.session.executor import TooSlow
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.pace import judge_pace
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL, TrialRecord, read_records
from smnas_optuna.workers.interrupt import StopRequest


def judge(
    times: Sequence[float], *, limit: float, total: int = 100, warm_up: int = 1
) -> tuple[str | None, float | None, int]:
    """Why a training is pruned whose steps end at ``times``, the estimate, and after how many steps."""
    trial, clock = optuna.create_study().ask(), iter([0.0, *times])
    on_step = judge_pace(limit, torch.device("cpu"), clock=lambda: next(clock), warm_up=warm_up)
    for done in range(1, total + 1):
        try:
            on_step(done, total)
        except TooSlow as slow:
            with pytest.raises(optuna.TrialPruned) as pruned:
                prune_slow(trial, slow, limit)
            return str(pruned.value), trial.user_attrs["estimated_seconds"], done
    assert "estimated_seconds" not in trial.user_attrs
    return None, None, total


def test_the_fastest_of_the_steps_after_the_first_tells_what_the_others_would_take() -> None:
    # 20 s of warm-up, then 120 s, 100 s and 110 s a step
    assert judge([20, 140, 240, 350], limit=1800) == (
        "would train for about 2 h 46 min, more than [search] max_seconds_per_trial = 1800",
        350 + 96 * 100,
        4,
    )


def test_steps_that_warm_up_say_nothing_about_the_others() -> None:
    # four steps kernel by kernel, then replays
    assert judge([10, 20, 30, 40, 41], limit=200, warm_up=4) == (None, None, 100)
    assert judge([10, 20, 30, 40, 50, 60, 70], limit=200, warm_up=4) == (
        "would train for about 17 min, more than [search] max_seconds_per_trial = 200",
        70 + 93 * 10,
        7,
    )


def test_one_disturbed_step_prunes_nothing() -> None:
    assert judge([1, 61, 62], limit=200) == (None, None, 100)


def test_time_that_is_spent_is_not_forgiven() -> None:
    assert judge([1, 201], limit=200) == (
        "would train for about 5 h 30 min, more than [search] max_seconds_per_trial = 200",
        201 + 98 * 200,
        2,
    )


def test_the_first_step_is_judged_by_itself_alone() -> None:
    assert judge([1800.5], limit=1800) == (
        "would train for at least 30 min, more than [search] max_seconds_per_trial = 1800",
        1800.5,
        1,
    )


@pytest.mark.parametrize("total", [1, 2, 100])
def test_a_training_within_the_limit_or_over_is_not_pruned_and_its_later_steps_are_not_timed(total: int) -> None:
    limit = {1: 0.1, 2: 3.0, 100: 101.0}[total]

    assert judge([2.0, 3.0], limit=limit, total=total) == (None, None, total)


SMALLER = {
    "input_sizes": '["32x32"]',
    "backbone_widths": "[4]",
    "necks": '["fpn"]',
    "neck_min_levels": "[3]",
    "neck_channels": "[8]",
    "rpns": '["rpn"]',
    "heads": '["retina", "fc"]',
    "head_widths": "[16]",
    "baselines": '["32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"]',
}


def search(study_dir: Path, limit: str) -> list[TrialRecord]:
    """The trials of a tiny space with a budget of one, ``limit`` being a line of the study's ``[search]`` table."""
    lines = (study_dir / "study.toml").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("max_seconds_per_trial")]
    names = [line.partition(" =")[0] for line in lines]
    lines = [f"{name} = {SMALLER[name]}" if name in SMALLER else line for name, line in zip(names, lines, strict=True)]
    lines.insert(lines.index("[search]") + 1, limit)
    (study_dir / "study.toml").write_text("\n".join(lines))
    run_search(Request(study_dir=study_dir, trials=1, device="cpu"), listener=Listener(), stop=StopRequest())
    return read_records(StudyFolder(study_dir).load(STRUCTURAL))


@pytest.mark.slow
@pytest.mark.usefixtures("enough_memory")
def test_a_study_prunes_by_its_limit_and_goes_on_without_one(study_dir: Path) -> None:
    pruned = [record for record in search(study_dir, "max_seconds_per_trial = 0.001") if record.cached_from is None]

    assert {record.state for record in pruned} == {"pruned"}
    for record in pruned:
        assert str(record.reason).endswith("more than [search] max_seconds_per_trial = 0.001")
        assert record.pruned is not None
        assert (record.pruned.estimated_seconds or 0) > 0.001
        assert set(record.attrs["seconds"]) == {"gate", "load", "train", "bookkeeping"}
        assert not (study_dir / "runs" / str(record.arch) / "weights.safetensors").exists()
    log = (study_dir / "runs" / str(pruned[0].arch) / "train.log").read_text()
    assert f"ended by TrialPruned: {pruned[0].reason}" in log

    trained = search(study_dir, "")[-1]

    assert trained.trained
    assert trained.arch == pruned[0].arch, "the first baseline"
