from __future__ import annotations

import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from optuna.trial import TrialState

from smnas_optuna.report.figures.hypervolume_figure import draw_hypervolume
from smnas_optuna.report.summary import summarize
from smnas_optuna.study.pareto import hypervolume_curve

from ..report_studies import FAST, MIDDLE, SLIM, add_trial, both_stages, full_study, new_study, timed_together
from .pictures import around, assert_legible, steps, texts
from .test_front_figure import DIFFERENT_RUNS


def curve(figure: Figure) -> list[list[float]]:
    return steps(figure.axes[0].lines[0])


def test_the_hypervolume_is_a_step_line_over_trained_architectures() -> None:
    summary = summarize(full_study())
    figure = draw_hypervolume(summary)
    axes = figure.axes[0]
    after = hypervolume_curve(summary.in_order, summary.reference)

    assert axes.lines[0].get_drawstyle() == "steps-post"
    assert curve(figure) == [[0.0, 0.0], *([float(n), area] for n, area in enumerate(after, start=1)), [4.5, after[-1]]]
    assert after[-1] == pytest.approx(33.096875)
    assert axes.get_xlabel() == "trained architectures"
    assert axes.get_ylabel() == "hypervolume to (154 ms, AP 0), ms x AP in [0, 1]"
    assert texts(figure).splitlines() == ["33.1", "baselines alone 28.35"]
    assert steps(axes.lines[-1]) == [[0.0, pytest.approx(28.35)], [1.0, pytest.approx(28.35)]]
    assert axes.get_xlim() == (0.0, 4.5)
    assert axes.get_ylim() == pytest.approx((0.0, 1.12 * after[-1]))


def test_the_title_names_the_study() -> None:
    figure = draw_hypervolume(summarize(full_study(), name="mine"))

    assert around(figure) == ["Hypervolume of mine, stage 1 (structural)"]
    assert_legible(figure)


def test_a_line_stands_where_stage_2_begins() -> None:
    figure = draw_hypervolume(summarize(*timed_together({})))
    line = figure.axes[0].lines[-1]

    assert steps(line) == [
        [4.5, 0.0],
        [4.5, 1.0],
    ]  # between the fourth architecture, the last of stage 1, and the fifth
    notes = {text.get_text().strip(): text for text in figure.axes[0].texts}
    assert list(notes) == ["47.28", "baselines alone 30.55", "stage 1: structural", "stage 2: modular"]
    assert [notes[name].get_horizontalalignment() for name in list(notes)[2:]] == ["right", "left"]


def test_stage_2_alone_begins_nowhere() -> None:
    assert texts(draw_hypervolume(summarize(*both_stages()[1:]))) == "44.38"


def test_the_hypervolume_of_no_and_of_one_architecture() -> None:
    assert texts(draw_hypervolume(summarize(new_study()))) == "no trained architecture yet\n(no trials)"

    study = new_study()
    add_trial(study, (2.0, 0.5), TrialState.COMPLETE, arch=FAST)
    area = pytest.approx(0.1)
    assert curve(draw_hypervolume(summarize(study))) == [[0.0, 0.0], [1.0, area], [1.5, area]]


@pytest.mark.parametrize("stages", [1, 2])
def test_nothing_within_the_limits_has_no_hypervolume(stages: int) -> None:
    studies = both_stages()[: 3 if stages == 2 else 1]
    for study in studies:
        study.set_user_attr("limits", {"max_latency_ms": 1.0})

    assert curve(draw_hypervolume(summarize(*studies)))[-1][1] == 0.0


def test_a_note_says_if_stages_were_timed_in_different_runs() -> None:
    begun = new_study(name=f"modular/{MIDDLE}")
    add_trial(begun, None, TrialState.RUNNING, arch=SLIM)

    assert draw_hypervolume(summarize(*both_stages())).get_supxlabel() == DIFFERENT_RUNS
    for studies in ([full_study()], timed_together({}), both_stages()[1:], [full_study(), begun]):
        assert draw_hypervolume(summarize(*studies)).get_supxlabel() == ""


def test_pyplot_knows_nothing_of_the_picture() -> None:
    draw_hypervolume(summarize(full_study()))

    assert pyplot.get_fignums() == []
