from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from optuna.study import Study
from optuna.trial import TrialState

from smnas_optuna.report.figures.frame import save_png
from smnas_optuna.report.figures.front_figure import brief_name, draw_front, save_front_png
from smnas_optuna.report.figures.hypervolume_figure import save_hypervolume_png
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.study.record import ELSEWHERE

from ..report_studies import (
    DEEP,
    DEVICE,
    FAST,
    MIDDLE,
    POOR,
    SLIM,
    STRONG,
    add_trial,
    both_stages,
    full_study,
    new_study,
    timed_together,
    with_recipes,
)
from .pictures import around, assert_legible, edges, key, labelled, labels, legend, lines, steps, texts

LONGEST = (
    f"1333x800.xbottleneck-w72-{'1' * 12}-2{'1' * 11}-2{'1' * 5}-2{'1' * 4}.fpn-p2-p6-c512-convc5.ga.cascade3-w1024"
)
DIFFERENT_RUNS = "The latencies of the two stages come from different runs: compare them with care."


def many(count: int, arch: str = STRONG) -> Summary:
    study = new_study()
    for number in range(count):
        ap = (number + 1) / (count + 1)
        add_trial(study, (5.0 + number, ap), TrialState.COMPLETE, arch=arch, baseline=number == 0)
    return summarize(study)


def dots(figure: Figure) -> list[list[list[float]]]:
    """The trained detectors within the limits, for each stage."""
    scattered = [each for each in figure.axes[0].collections if not isinstance(each, FillBetweenPolyCollection)]
    return [np.asarray(each.get_offsets()).tolist() for each in scattered]


def prune(study: Study, gate_ms: float | None, **attrs: Any) -> None:
    attrs |= {} if gate_ms is None else {"gate_ms": gate_ms}
    add_trial(study, None, TrialState.PRUNED, arch=POOR, **attrs)


def test_axes_say_what_they_show_and_points_lie_where_they_should() -> None:
    figure = draw_front(summarize(full_study()))
    axes = figure.axes[0]
    end = axes.get_xlim()[1]
    drawn = lines(figure)

    assert axes.get_xlabel() == "latency on Intel Xeon CPU @ 2.20GHz, 2 threads (ms, batch 1)"
    assert axes.get_ylabel() == "COCO AP x100 on the validation images"
    assert drawn["Pareto front"] == [[3.5, 6.25], [12.25, 20.0], [140.0, 50.0], [end, 50.0]]
    assert drawn["baselines and their front"] == [[12.25, 20.0], [end, 20.0]]
    assert [line.get_markevery() for line in axes.lines] == [[0, 1, 2], [0]]  # the end of a line has no mark
    assert dots(figure) == [[[12.25, 20.0], [30.0, 15.0], [3.5, 6.25], [140.0, 50.0]]]
    assert legend(figure) == [
        *("Pareto front", "baselines and their front", "gain over the baselines"),
        "trained (darker: later generation): 4",
    ]


def test_later_generations_are_darker() -> None:
    (shades,) = [each.get_facecolor() for each in draw_front(summarize(full_study())).axes[0].collections[1:]]

    assert [shade[0] for shade in np.asarray(shades)] == pytest.approx([0.78, 0.78, 0.38, 0.38])


def test_the_title_names_study_stages_and_data_and_the_line_below_it_the_gain() -> None:
    study = full_study()
    sizes = {"train": {"images": 1400}, "val": {"images": 120}}
    data = {"content": "0f", "classes": ["circle", "square"], **sizes}
    study.set_user_attr("fingerprint", {"data": data, "device": DEVICE})
    title, about, gain = around(draw_front(summarize(study, name="mine")))[:3]

    assert title == "Pareto front of mine, stage 1 (structural)"
    assert about == "1,400 training and 120 validation images, 2 classes (circle, square)"
    # (154 - 12.25) * 0.2 = 28.35
    assert gain == "4 trained, 3 on the front, 1 pruned; hypervolume 33.1, baselines alone 28.4 (+17 %)"


def test_the_gain_of_two_stages_names_that_of_stage_1() -> None:
    written = around(draw_front(summarize(*both_stages(), name="mine")))

    assert written[:2] == [
        "Pareto front of mine, stages 1 (structural) and 2 (modular)",
        "6 trained, 4 on the front, 1 pruned; hypervolume 47.3, baselines alone 30.6 (+55 %), stage 1 alone 38.6",
    ]


def test_a_study_that_knows_nothing_of_its_data_and_has_no_baseline_says_what_it_can() -> None:
    study = new_study()
    add_trial(study, (5.0, 0.5), TrialState.COMPLETE, arch=FAST)
    figure = draw_front(summarize(study))

    assert around(figure)[:2] == [
        "Pareto front, stage 1 (structural)",
        "1 trained, 1 on the front; hypervolume 0.25",
    ]
    assert legend(figure) == ["Pareto front", "trained in stage 1: 1"]


def test_the_shaded_area_is_what_the_front_dominates_and_the_baselines_do_not() -> None:
    figure = draw_front(summarize(full_study()))
    (shaded,) = [each for each in figure.axes[0].collections if isinstance(each, FillBetweenPolyCollection)]
    (path,) = shaded.get_paths()

    # Left of the only baseline all of the front; right of it what lies above the baseline.
    for inside in ((5.0, 3.0), (12.0, 6.0), (141.0, 21.0), (141.0, 49.0)):
        assert path.contains_point(inside), inside
    for outside in ((3.0, 3.0), (5.0, 7.0), (12.0, 7.0), (13.0, 19.0), (100.0, 21.0), (141.0, 51.0)):
        assert not path.contains_point(outside), outside


def test_baselines_that_are_the_front_leave_no_gain() -> None:
    figure = draw_front(many(1))

    assert around(figure)[1] == "1 trained, 1 on the front; hypervolume 0.25, baselines alone 0.25 (+0 %)"
    assert legend(figure) == ["Pareto front", "baselines and their front", "trained in stage 1: 1"]


def test_the_key_has_the_exact_architecture_of_every_member() -> None:
    rows = key(draw_front(summarize(full_study())))

    assert rows[0].split() == ["ms", "AP", "from", "architecture"]
    assert [row.split(maxsplit=4) for row in rows[1:]] == [
        ["1", "3.50", "6.2", "stage", f"1   {FAST}"],
        ["2", "12.2", "20.0", "baseline", MIDDLE],
        ["3", "140", "50.0", "stage", f"1   {STRONG}"],
    ]


def test_every_member_has_a_label_with_ap_latency_and_a_brief_name() -> None:
    figure = draw_front(summarize(full_study()))

    assert labelled(figure) == {"1": [3.5, 6.25], "2": [12.25, 20.0], "3": [140.0, 50.0]}
    assert [note.get_text() for note in labels(figure)] == [
        "1  AP 6.2 at 3.50 ms\n128x96 resnet18-w8 retina",
        "2  AP 20.0 at 12.2 ms, baseline\n128x96 resnet18-w16 fc-w256",
        "3  AP 50.0 at 140 ms\n1333x800 resnet50-w64 fc-w1024",
    ]


def test_a_baseline_off_the_front_has_a_label_and_a_row_of_its_own() -> None:
    figure = draw_front(summarize(*both_stages()))

    assert labelled(figure)["b1"] == [12.25, 20.0]
    assert labels(figure)[-1].get_text() == "b1  AP 20.0 at 12.2 ms, baseline\n128x96 resnet18-w16 fc-w256"
    assert key(figure)[-1].split() == ["b1", "12.2", "20.0", "baseline", MIDDLE]


@pytest.mark.parametrize(("slowest", "scale"), [(20.0, "linear"), (100.0, "log")])
def test_a_large_span_of_latencies_is_logarithmic(slowest: float, scale: str) -> None:
    study = new_study()
    for latency, ap in ((10.0, 0.1), (slowest, 0.2)):
        add_trial(study, (latency, ap), TrialState.COMPLETE, arch=FAST)

    assert draw_front(summarize(study)).axes[0].get_xscale() == scale


def test_trials_far_from_the_front_do_not_squeeze_it_and_are_counted() -> None:
    study = new_study()
    for latency, ap in ((10.0, 0.3), (14.0, 0.4), (15.0, 0.35), (20.0, 0.2), (60.0, 0.1), (12.0, 0.0)):
        add_trial(study, (latency, ap), TrialState.COMPLETE, arch=FAST)
    figure = draw_front(summarize(study))
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()

    assert (left, right) == pytest.approx((9.2, 20.8))  # 20 ms is no further than half of the slowest member, 60 is
    assert (bottom, top) == pytest.approx((18.4, 42.4))  # so is AP 20, 10 points below the front; AP 0 is not
    assert legend(figure)[-1] == "trained in stage 1: 6 (2 not shown)"


def test_no_trial_says_so_in_the_picture() -> None:
    assert texts(draw_front(summarize(new_study()))) == "no trained architecture yet\n(no trials)"

    study = new_study()
    add_trial(study, None, TrialState.FAIL, reason="out of memory")
    assert texts(draw_front(summarize(study))) == "no trained architecture yet\n(1 failed)"


@pytest.mark.parametrize("count", [0, 1, 3, pytest.param(60, marks=pytest.mark.slow)])
def test_every_number_of_points_draws_inside_the_picture(count: int, tmp_path: Path) -> None:
    for save in (save_front_png, save_hypervolume_png):
        save(many(count), tmp_path / "front.part")

        assert edges(tmp_path / "front.part") == [(255, 255)] * 4  # nothing is cut off on any side


def test_zero_ap_and_equal_points_are_drawn() -> None:
    study = new_study()
    for _ in range(2):
        add_trial(study, (5.0, 0.0), TrialState.COMPLETE, arch=FAST)
    axes = draw_front(summarize(study)).axes[0]

    assert axes.get_ylim()[0] < 0
    assert axes.get_xlim()[0] < 5.0 < axes.get_xlim()[1]


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        (MIDDLE, "128x96 resnet18-w16 fc-w256"),
        (FAST, "128x96 resnet18-w8 retina"),
        ("128x96.resnet18-w8.c4.rpn.cascade3", "128x96 resnet18-w8 c4 cascade3"),
        (MIDDLE.replace(".rpn.", ".ga."), "128x96 resnet18-w16 ga fc-w256"),
        (SLIM, "128x96 basicblock-w16 fc-w256"),
        (LONGEST, "1333x800 xbottleneck-w72 ga cascade3-w1024"),
        ("none of ours", "none of ours"),
        (None, ""),
    ],
)
def test_brief_name(arch: str | None, name: str) -> None:
    assert brief_name(arch) == name


def test_two_stages_have_dots_each_a_joint_front_and_that_of_stage_1() -> None:
    figure = draw_front(summarize(*both_stages()))
    end = figure.axes[0].get_xlim()[1]
    drawn = lines(figure)

    joint = [[3.5, 6.25], [10.0, 25.0], [140.0, 50.0], [150.0, 62.5]]
    assert drawn["front of both stages"] == [*joint, [end, 62.5]]
    assert drawn["front of stage 1 alone"] == [[3.5, 6.25], [12.25, 20.0], [140.0, 50.0], [end, 50.0]]
    assert {line.get_drawstyle() for line in figure.axes[0].lines if len(steps(line)) > 2} == {"steps-post"}
    assert (drawn["found in stage 1"], drawn["found in stage 2"]) == (joint[::2], joint[1::2])
    marks = {str(line.get_label()): (line.get_marker(), line.get_markerfacecolor()) for line in figure.axes[0].lines}
    assert [marks[f"found in stage {number}"][0] for number in (1, 2)] == ["o", "^"]
    assert marks["front of stage 1 alone"] == ("o", "white")
    assert dots(figure) == [
        [[12.25, 20.0], [30.0, 15.0], [3.5, 6.25], [140.0, 50.0]],
        [[10.0, 25.0], [150.0, 62.5]],
    ]
    assert legend(figure) == [
        *("front of both stages", "found in stage 1", "found in stage 2", "front of stage 1 alone"),
        *("baselines and their front", "gain over the baselines", "trained in stage 1: 4", "trained in stage 2: 2"),
    ]


def test_the_labelled_points_are_the_front_of_both_stages_and_the_key_says_which_one_each_is_from() -> None:
    figure = draw_front(summarize(*both_stages()))
    points = labelled(figure)
    rows = [row.split() for row in key(figure)]

    assert [points[number] for number in "1234"] == [[3.5, 6.25], [10.0, 25.0], [140.0, 50.0], [150.0, 62.5]]
    assert rows[0] == ["ms", "AP", "from", "architecture"]
    assert rows[1:5] == [
        ["1", "3.50", "6.2", "stage", "1", FAST],
        ["2", "10.0", "25.0", "stage", "2", SLIM],
        ["3", "140", "50.0", "stage", "1", STRONG],
        ["4", "150", "62.5", "stage", "2", DEEP],
    ]


def test_stage_2_alone_has_its_marks_and_colour() -> None:
    figure = draw_front(summarize(*both_stages()[1:]))
    (front,) = [line for line in figure.axes[0].lines if line.get_label() == "Pareto front"]

    assert (front.get_marker(), front.get_color()) == ("^", "#009E73")
    assert legend(figure) == ["Pareto front", "trained in stage 2: 2"]


def test_what_was_timed_together_is_drawn_at_that_latency() -> None:
    figure = draw_front(summarize(*timed_together({SLIM: 9.5, MIDDLE: 11.0})))
    end = figure.axes[0].get_xlim()[1]
    drawn = lines(figure)

    assert labelled(figure)["2"] == [9.5, 25.0]
    assert drawn["baselines and their front"] == [[11.0, 20.0], [end, 20.0]]
    assert [11.0, 20.0] in drawn["front of stage 1 alone"]
    assert not any([12.25, 20.0] in points or [10.0, 25.0] in points for points in drawn.values())
    assert [11.0, 20.0] in dots(figure)[0]


def test_a_note_says_if_stages_were_timed_in_different_runs() -> None:
    begun = new_study(name=f"modular/{MIDDLE}")
    add_trial(begun, None, TrialState.RUNNING, arch=SLIM)

    assert draw_front(summarize(*both_stages())).get_supxlabel() == DIFFERENT_RUNS
    for studies in ([full_study()], timed_together({}), both_stages()[1:], [full_study(), begun]):
        assert draw_front(summarize(*studies)).get_supxlabel() == ""


def test_architectures_beyond_the_limits_are_crosses_and_the_front_passes_below_them() -> None:
    study = full_study()
    study.set_user_attr("limits", {"max_latency_ms": 100.0})
    figure = draw_front(summarize(study))
    end = figure.axes[0].get_xlim()[1]

    assert lines(figure)["trained, beyond the limits: 1 (1 not shown)"] == [[140.0, 50.0]]
    assert lines(figure)["Pareto front"] == [[3.5, 6.25], [12.25, 20.0], [end, 20.0]]
    assert [140.0, 50.0] not in dots(figure)[0]


@pytest.mark.parametrize(("limit", "shown"), [(15.0, True), (2000.0, False)])
def test_a_latency_limit_is_a_line_where_it_lies_within_the_axes(limit: float, shown: bool) -> None:
    study = full_study()
    study.set_user_attr("limits", {"max_latency_ms": limit})
    figure = draw_front(summarize(study))

    assert (f"max_latency_ms = {limit:g}" in legend(figure)) == shown
    if shown:
        assert lines(figure)["max_latency_ms = 15"] == [[15.0, 0.0], [15.0, 1.0]]  # from bottom to top


def test_pruned_detectors_are_ticks_at_the_latency_that_training_would_have_shown() -> None:
    study = new_study()
    for latency, ap, gate_ms in ((8.0, 0.2, 10.0), (9.0, 0.3, 10.0), (14.0, 0.4, 20.0)):  # 0.8, 0.9 and 0.7 of it
        add_trial(study, (latency, ap), TrialState.COMPLETE, arch=FAST, gate_ms=gate_ms)
    for timed_ms in (11.0, 15.0, 60.0, None):
        prune(study, timed_ms, dominated_by=[STRONG, FAST])
    add_trial(study, None, TrialState.PRUNED, arch=POOR, gate_ms=12.0, cached_from=3)
    add_trial(study, None, TrialState.PRUNED, arch=POOR, gate_ms=12.0, reason=ELSEWHERE)
    figure = draw_front(summarize(study))
    ticks = lines(figure)["pruned before training, at expected latency: 3 (1 not shown)"]
    bottom, top = figure.axes[0].get_ylim()

    assert [latency for latency, _ in ticks] == pytest.approx([8.8, 12.0, 48.0])
    assert [ap for _, ap in ticks] == pytest.approx([bottom + 0.015 * (top - bottom)] * 3)


def test_pruned_detectors_of_a_study_without_other_gate_latencies_stand_at_their_own() -> None:
    study = full_study()
    prune(study, 10.0)

    assert lines(draw_front(summarize(study)))["pruned before training, at expected latency: 1"][0][0] == 10.0


def test_trainings_that_were_stopped_stand_at_the_ap_that_they_had() -> None:
    study = full_study()
    prune(study, 20.0, stopped_at_epoch=2, stopped_by=MIDDLE, ap_by_epoch={"1": 0.02, "2": 0.05})
    prune(study, 30.0, stopped_at_epoch=2, stopped_by=MIDDLE)  # an older study
    figure = draw_front(summarize(study))

    assert lines(figure)["stopped early, at the AP by then: 1"] == [[20.0, 5.0]]
    assert not any("before training" in name for name in legend(figure))


@pytest.mark.parametrize("stages", [1, 2])
def test_nothing_within_the_limits_still_draws(stages: int, tmp_path: Path) -> None:
    studies = both_stages()[: 3 if stages == 2 else 1]
    for study in studies:
        study.set_user_attr("limits", {"max_latency_ms": 1.0})
    summary = summarize(*studies)
    figure = draw_front(summary)

    assert list(labelled(figure)) == ["b1"]
    trained = 6 if stages == 2 else 4
    assert legend(figure) == ["baselines", f"trained, beyond the limits: {trained}", "max_latency_ms = 1"]
    assert around(figure)[1] == f"{trained} trained, 0 on the front, 1 pruned; hypervolume 0"
    for save in (save_front_png, save_hypervolume_png):
        save(summary, tmp_path / "picture")
        assert edges(tmp_path / "picture") == [(255, 255)] * 4


@pytest.mark.slow
def test_two_stages_draw_inside_the_picture_also_with_the_longest_names(tmp_path: Path) -> None:
    studies = both_stages()
    for number in range(40):
        values = (20.0 + 1.5 * number, 0.3 + number / 100)
        add_trial(studies[1 + number % 2], values, TrialState.COMPLETE, arch=LONGEST)
    summary = summarize(*studies)

    assert len(summary.front) == 42  # what is new dominates STRONG and DEEP
    figure = draw_front(summary)
    save_png(figure, tmp_path / "front")
    save_hypervolume_png(summary, tmp_path / "hypervolume")
    assert [edges(path) for path in tmp_path.iterdir()] == [[(255, 255)] * 4] * 2
    assert [row.split()[-1] for row in key(figure)[3:43]] == [LONGEST] * 40


@pytest.mark.parametrize("count", [1, 2, 8, 15, 22])
def test_labels_overlap_nothing_and_stay_inside(count: int) -> None:
    random = np.random.default_rng(count)
    study = new_study()
    for number, latency in enumerate(np.sort(random.uniform(5, 20, count))):
        arch = LONGEST if number % 3 else MIDDLE
        add_trial(study, (latency, 0.1 + number / 50), TrialState.COMPLETE, arch=arch, baseline=number % 4 == 0)
    for _ in range(20):
        add_trial(study, (random.uniform(20, 25), random.uniform(0, 0.1)), TrialState.COMPLETE, arch=POOR)
    figure = draw_front(summarize(study))

    assert [name for name in labelled(figure) if name.isdigit()] == [str(number + 1) for number in range(count)]
    assert_legible(figure)


def test_of_many_members_some_have_labels_the_first_and_the_last_among_them() -> None:
    names = [name for name in labelled(draw_front(many(150))) if name.isdigit()]

    assert (len(names), names[0], names[-1]) == (60, "1", "150")
    assert max(int(after) - int(before) for before, after in itertools.pairwise(names)) == 3


def test_labels_of_points_that_are_close_together_do_not_overlap() -> None:
    study = new_study()
    for latency, ap in ((10.0, 0.3), (10.1, 0.302), (10.2, 0.304), (10.3, 0.306), (20.0, 0.6), (30.0, 0.1)):
        add_trial(study, (latency, ap), TrialState.COMPLETE, arch=FAST)
    figure = draw_front(summarize(study))

    assert len(labelled(figure)) == 5
    assert_legible(figure)


@pytest.mark.parametrize("name", ["a" * 90, "$x$ $", "\N{CJK UNIFIED IDEOGRAPH-4E2D}", "a_b^c\\frac"])
def test_every_name_of_a_study_and_of_classes_is_written_as_it_is(name: str) -> None:
    study = full_study()
    study.set_user_attr("fingerprint", {"data": {"classes": [name]}})
    figure = draw_front(summarize(study, name=name))

    assert_legible(figure)
    known = name.replace("\N{CJK UNIFIED IDEOGRAPH-4E2D}", "?")  # which the font lacks
    assert around(figure)[0] == f"Pareto front of {known}, stage 1 (structural)"


def test_a_picture_is_as_wide_as_any_other_and_small_on_disk(tmp_path: Path) -> None:
    widths = {draw_front(summary).get_figwidth() for summary in (many(0), many(3), many(3, LONGEST))}
    save_front_png(summarize(*both_stages()), tmp_path / "front.png")

    assert widths == {8.5}
    assert (tmp_path / "front.png").stat().st_size < 100_000


def test_pyplot_knows_nothing_of_the_picture() -> None:
    draw_front(summarize(full_study()))

    assert pyplot.get_fignums() == []


def test_the_picture_of_stages_of_different_recipes_has_stage_2_alone() -> None:
    alike, other = draw_front(summarize(*with_recipes(5, 5, 5))), draw_front(summarize(*with_recipes(5, 9, 9)))

    assert {"front of both stages", "front of stage 1 alone", "baselines and their front"} <= set(legend(alike))
    assert "Pareto front" in legend(other)
    assert not any("stage 1" in text or "baselines" in text for text in legend(other))
