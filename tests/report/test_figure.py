from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from optuna.trial import TrialState
from PIL import Image

from smnas_optuna.report.figure import draw_front, draw_hypervolume, save_front_png, save_hypervolume_png, short_name
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.study.pareto import hypervolume_curve

from .report_studies import (
    DEEP,
    FAST,
    MIDDLE,
    SLIM,
    STRONG,
    add_trial,
    both_stages,
    full_study,
    new_study,
    timed_together,
)

LONGEST = (
    f"1333x800.xbottleneck-w72-{'1' * 12}-2{'1' * 11}-2{'1' * 5}-2{'1' * 4}.fpn-p2-p6-c512-convc5.ga.cascade3-w1024"
)
DIFFERENT_RUNS = "The latencies of the two stages come from different runs: compare them with care."


def many(count: int) -> Summary:
    study = new_study()
    for number in range(count):
        ap = (number + 1) / (count + 1)
        add_trial(study, (5.0 + number, ap), TrialState.COMPLETE, arch=STRONG, baseline=number == 0)
    return summarize(study)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def key(figure: Figure) -> list[str]:
    (lines,) = [text.get_text().splitlines() for text in figure.axes[0].texts if "architecture" in text.get_text()]
    return lines


def numbers(figure: Figure) -> list[list[float]]:
    """Where the numbered points are, in the order of the numbers."""
    notes = [text for text in figure.axes[0].texts if isinstance(text, Annotation) and text.get_text().isdigit()]
    assert [note.get_text() for note in notes] == [str(number) for number in range(1, len(notes) + 1)]
    return [list(note.xy) for note in notes]


def steps(line: Line2D) -> list[list[float]]:
    points: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return points


def curve(figure: Figure) -> list[list[float]]:
    return steps(figure.axes[0].lines[0])


def edges(path: Path) -> list[tuple[int, int]]:
    """The darkest and the brightest shade of the outermost pixels on each side."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = image.size
        sides = ((0, 0, width, 2), (width - 2, 0, width, height), (0, height - 2, width, height), (0, 0, 2, height))
        found = [image.convert("L").crop(side).getextrema() for side in sides]
    return [(int(low), int(high)) for low, high in found]  # type: ignore[arg-type]


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_axes_say_what_they_show_and_points_lie_where_they_should() -> None:
    figure = draw_front(summarize(full_study()))
    axes = figure.axes[0]
    lines = {str(line.get_label()): steps(line) for line in axes.lines}

    assert axes.get_xlabel() == "latency on Intel Xeon CPU @ 2.20GHz, 2 threads (ms, batch 1)"
    assert axes.get_ylabel() == "COCO AP x100 on the validation images"
    assert lines["Pareto front"] == [[3.5, 6.25], [12.25, 20.0], [140.0, 50.0]]
    assert lines["baseline"] == [[12.25, 20.0]]
    assert np.array_equal(axes.collections[0].get_offsets(), [[12.25, 20.0], [30.0, 15.0], [3.5, 6.25], [140.0, 50.0]])
    assert legend(figure) == ["trained (darker: later generation)", "Pareto front", "baseline"]


def test_the_key_names_every_point_of_the_front() -> None:
    lines = key(draw_front(summarize(full_study())))

    assert lines[0].split() == ["ms", "AP", "architecture"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["1", "3.5", "6.2"],
        ["2", "12.2", "20.0"],
        ["3", "140.0", "50.0"],
    ]
    assert [line.split(maxsplit=3)[3] for line in lines[1:]] == [short_name(arch) for arch in (FAST, MIDDLE, STRONG)]


@pytest.mark.parametrize(("slowest", "scale"), [(20.0, "linear"), (100.0, "log")])
def test_a_large_span_of_latencies_is_logarithmic(slowest: float, scale: str) -> None:
    study = new_study()
    for latency, ap in ((10.0, 0.1), (slowest, 0.2)):
        add_trial(study, (latency, ap), TrialState.COMPLETE, arch=FAST)

    assert draw_front(summarize(study)).axes[0].get_xscale() == scale


def test_no_trial_says_so_in_the_picture() -> None:
    assert texts(draw_front(summarize(new_study()))) == "no trained architecture yet\n(no trials)"

    study = new_study()
    add_trial(study, None, TrialState.FAIL, reason="out of memory")
    assert texts(draw_front(summarize(study))) == "no trained architecture yet\n(1 failed)"


@pytest.mark.parametrize("count", [0, 1, 3, 60])
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


def test_short_name_leaves_out_the_rpn_and_shortens_the_longest() -> None:
    assert short_name(MIDDLE) == "128x96 resnet18-w16 fpn-p2-p5-c64 fc-w256"
    assert short_name(FAST) == "128x96 resnet18-w8 fpn-p3-p5-c32 retina"
    assert short_name("128x96.resnet18-w8.c4.rpn.cascade3") == "128x96 resnet18-w8 c4 cascade3"
    assert short_name(LONGEST) == LONGEST.replace(".", " ")
    assert short_name("x" * 110) == "x" * 102 + "…"


def test_short_name_shows_guided_anchoring() -> None:
    guided = MIDDLE.replace(".rpn.", ".ga.")

    assert short_name(guided) == "128x96 resnet18-w16 fpn-p2-p5-c64 ga fc-w256"


def test_two_stages_have_dots_and_a_step_line_each_and_the_front_of_both_is_filled() -> None:
    figure = draw_front(summarize(*both_stages()))
    axes = figure.axes[0]
    end = axes.get_xlim()[1]
    lines = [line for line in axes.lines if steps(line)]

    assert {line.get_linestyle(): steps(line) for line in lines if line.get_drawstyle() == "steps-post"} == {
        "--": [[3.5, 6.25], [12.25, 20.0], [140.0, 50.0], [end, 50.0]],
        "-": [[10.0, 25.0], [150.0, 62.5], [end, 62.5]],
    }
    marks = {(str(line.get_marker()), line.get_markerfacecolor() != "white"): steps(line) for line in lines}
    assert marks["o", True] == [[3.5, 6.25], [140.0, 50.0]]
    assert marks["o", False] == [[12.25, 20.0]]
    assert marks["^", True] == [[10.0, 25.0], [150.0, 62.5]]
    assert ("^", False) not in marks
    dots = [np.asarray(collection.get_offsets()).tolist() for collection in axes.collections]
    assert [points for points in dots if points] == [  # the others are the legend's
        [[12.25, 20.0], [30.0, 15.0], [3.5, 6.25], [140.0, 50.0]],
        [[10.0, 25.0], [150.0, 62.5]],
    ]
    assert legend(figure) == ["structural trials", "structural front", "modular trials", "modular front", "baseline"]


def test_the_numbered_points_are_the_front_of_both_stages_and_the_key_says_which_one_each_is_from() -> None:
    figure = draw_front(summarize(*both_stages()))
    lines = key(figure)

    assert numbers(figure) == [[3.5, 6.25], [10.0, 25.0], [140.0, 50.0], [150.0, 62.5]]
    assert lines[0] == "front of both stages (filled marks)"
    assert lines[1].split() == ["ms", "AP", "stage", "architecture"]
    assert [line.split(maxsplit=4) for line in lines[2:]] == [
        ["1", "3.5", "6.2", "structural", short_name(FAST)],
        ["2", "10.0", "25.0", "modular", short_name(SLIM)],
        ["3", "140.0", "50.0", "structural", short_name(STRONG)],
        ["4", "150.0", "62.5", "modular", short_name(DEEP)],
    ]


def test_what_was_timed_together_is_drawn_at_that_latency() -> None:
    figure = draw_front(summarize(*timed_together({SLIM: 9.5, MIDDLE: 11.0})))
    drawn = [steps(line) for line in figure.axes[0].lines]

    assert numbers(figure)[1] == [9.5, 25.0]
    assert [[11.0, 20.0]] in drawn  # MIDDLE as a baseline, and on its own front
    assert not any([12.25, 20.0] in points or [10.0, 25.0] in points for points in drawn)
    assert [11.0, 20.0] in figure.axes[0].collections[0].get_offsets().tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("draw", [draw_front, draw_hypervolume])
def test_a_note_says_if_stages_were_timed_in_different_runs(draw: Callable[[Summary], Figure]) -> None:
    begun = new_study(name=f"modular/{MIDDLE}")
    add_trial(begun, None, TrialState.RUNNING, arch=SLIM)

    assert draw(summarize(*both_stages())).get_supxlabel() == DIFFERENT_RUNS
    for studies in ([full_study()], timed_together({}), both_stages()[1:], [full_study(), begun]):
        assert draw(summarize(*studies)).get_supxlabel() == ""


def test_architectures_beyond_the_limits_are_crosses_and_the_front_passes_below_them() -> None:
    study = full_study()
    study.set_user_attr("limits", {"max_latency_ms": 100.0})
    figure = draw_front(summarize(study))
    lines = {str(line.get_label()): steps(line) for line in figure.axes[0].lines}

    assert lines["trained, beyond the limits"] == [[140.0, 50.0]]
    assert lines["Pareto front"] == [[3.5, 6.25], [12.25, 20.0]]
    assert [140.0, 50.0] not in figure.axes[0].collections[0].get_offsets().tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("stages", [1, 2])
def test_nothing_within_the_limits_still_draws(stages: int, tmp_path: Path) -> None:
    studies = both_stages()[: 3 if stages == 2 else 1]
    for study in studies:
        study.set_user_attr("limits", {"max_latency_ms": 1.0})
    summary = summarize(*studies)

    assert numbers(draw_front(summary)) == []
    assert curve(draw_hypervolume(summary))[-1][1] == 0.0
    for save in (save_front_png, save_hypervolume_png):
        save(summary, tmp_path / "picture")
        assert edges(tmp_path / "picture") == [(255, 255)] * 4


def test_two_stages_draw_inside_the_picture_also_with_the_longest_names(tmp_path: Path) -> None:
    studies = both_stages()
    for number in range(40):
        values = (20.0 + 1.5 * number, 0.3 + number / 100)
        add_trial(studies[1 + number % 2], values, TrialState.COMPLETE, arch=LONGEST)
    summary = summarize(*studies)

    assert len(summary.front) == 42  # what is new dominates STRONG and DEEP
    for save in (save_front_png, save_hypervolume_png):
        save(summary, tmp_path / "picture")
        assert edges(tmp_path / "picture") == [(255, 255)] * 4
    assert short_name(LONGEST) in texts(draw_front(summary))


def test_numbers_of_points_that_are_close_together_do_not_overlap() -> None:
    study = new_study()
    for latency, ap in ((10.0, 0.3), (10.1, 0.302), (10.2, 0.304), (10.3, 0.306), (20.0, 0.6), (30.0, 0.1)):
        add_trial(study, (latency, ap), TrialState.COMPLETE, arch=FAST)
    figure = draw_front(summarize(study))
    figure.draw_without_rendering()
    notes = [text for text in figure.axes[0].texts if text.get_text().isdigit()]
    boxes = [note.get_window_extent() for note in notes]

    assert len(numbers(figure)) == 5
    assert notes[0].get_position() == notes[4].get_position() == (-3, 3)  # where there is room, above the line
    assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))


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
    assert texts(figure) == "33.1"
    assert axes.get_xlim() == (0.0, 4.5)
    assert axes.get_ylim() == pytest.approx((0.0, 1.12 * after[-1]))


def test_a_line_stands_where_stage_2_begins() -> None:
    figure = draw_hypervolume(summarize(*timed_together({})))
    line = figure.axes[0].lines[-1]

    assert steps(line) == [
        [4.5, 0.0],
        [4.5, 1.0],
    ]  # between the fourth architecture, the last of stage 1, and the fifth
    notes = {text.get_text().strip(): text for text in figure.axes[0].texts}
    assert list(notes) == ["47.28", "stage 1: structural", "stage 2: modular"]
    assert [notes[name].get_horizontalalignment() for name in list(notes)[1:]] == ["right", "left"]


def test_stage_2_alone_begins_nowhere() -> None:
    assert texts(draw_hypervolume(summarize(*both_stages()[1:]))) == "44.38"


def test_the_hypervolume_of_no_and_of_one_architecture() -> None:
    assert texts(draw_hypervolume(summarize(new_study()))) == "no trained architecture yet\n(no trials)"

    study = new_study()
    add_trial(study, (2.0, 0.5), TrialState.COMPLETE, arch=FAST)
    area = pytest.approx(0.1)
    assert curve(draw_hypervolume(summarize(study))) == [[0.0, 0.0], [1.0, area], [1.5, area]]


def test_a_long_name_widens_the_picture_and_is_not_cut() -> None:
    arch = "1333x800.mobilenet_v2-w64.fpn-p2-p6-c256-convc5.ga.cascade3-w1024"
    study = new_study()
    add_trial(study, (5.0, 0.5), TrialState.COMPLETE, arch=arch)
    figure = draw_front(summarize(study))

    assert short_name(arch) == arch.replace(".", " ")
    assert figure.get_figwidth() > draw_front(many(1)).get_figwidth()
    assert short_name(arch) in texts(figure)


def test_the_column_of_the_stage_widens_the_picture() -> None:
    both, alone = draw_front(summarize(*both_stages())), draw_front(summarize(*both_stages()[1:]))

    assert both.get_figwidth() - alone.get_figwidth() == pytest.approx(12 * 0.055)


def test_pyplot_knows_nothing_of_the_picture() -> None:
    draw_front(summarize(full_study()))

    assert pyplot.get_fignums() == []
