from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from smnas_optuna.report.study_page.endings import why_not_trained
from smnas_optuna.report.study_page.search_section import progress_of, search_section
from smnas_optuna.report.summary import summarize
from smnas_optuna.study.record import Pruned
from tests.report.report_studies import FAST, MIDDLE, POOR, add_trial, both_stages, full_study, new_study


def _timed() -> optuna.study.Study:
    """Three trainings of half an hour each, and one that was stopped after a quarter, between the first two."""
    study, done = new_study(), TrialState.COMPLETE
    add_trial(study, (10.0, 0.2), done, minute=30, arch=MIDDLE, baseline=True, seconds={"train": 1500, "latency": 300})
    stopped = {"stopped_at_epoch": 1, "reason": "stopped", "seconds": {"train": 900}}
    add_trial(study, None, TrialState.PRUNED, minute=45, arch=POOR, **stopped)
    add_trial(study, (5.0, 0.1), done, minute=60, arch=FAST, seconds={"train": 1800})
    return study


def test_progress_counts_the_hours_of_all_trials_in_the_order_of_their_ends() -> None:
    points = progress_of(summarize(_timed()))

    assert [hours for hours, _ in points] == [0.5, 1.25]
    assert [round(value, 6) for _, value in points] == [0.2, 0.7]  # to 11 ms: 1 x 0.2, and 5 x 0.1 more


def test_the_section_has_charts_endings_and_time() -> None:
    text = search_section(summarize(_timed()))

    assert "Hypervolume over trainings" in text
    assert "hours of all workers" in text
    assert "stopped after epoch 1, far behind" in text
    assert "1 h 15 min of all trials" in text
    assert "<td>1 h 10 min, 93 %</td>" in text
    assert "from 8 trained architectures on" in text


def test_a_study_without_a_training_has_a_section_all_the_same() -> None:
    study = new_study()
    add_trial(study, None, TrialState.FAIL, arch=POOR, reason="DivergenceError: <b>the loss</b>")
    text = search_section(summarize(study))

    assert "failed: DivergenceError" in text
    assert "Hypervolume over" not in text


def test_both_stages_make_one_curve() -> None:
    summary = summarize(*both_stages())

    assert len(progress_of(summary)) == 6
    assert progress_of(summary)[-1][1] == pytest.approx(summary.hypervolumes["all"])


@pytest.mark.parametrize(
    ("pruned", "words"),
    [
        (
            Pruned(over_budget=("max_latency_ms", "max_params")),
            "over max_latency_ms and max_params before its training",
        ),
        (Pruned(estimated_seconds=9.0), "its training would take too long"),
        (Pruned(stopped_at_epoch=3, stopped_by=FAST), "stopped after epoch 3, far behind"),
        (Pruned(), "pruned: over budget"),
    ],
)
def test_why_a_trial_was_pruned_is_said_in_few_words(pruned: Pruned, words: str) -> None:
    record = next(each for each in summarize(full_study()).records if each.state == "pruned")

    assert why_not_trained(replace(record, pruned=pruned)) == words


def test_trained_trials_have_no_reason() -> None:
    reasons = [why_not_trained(record) for record in summarize(full_study()).records]

    assert reasons == [None] * 4 + [
        "known already: answered from an earlier trial",
        "pruned: over budget",
        "failed: DivergenceError",
        "interrupted",
        None,
    ]
