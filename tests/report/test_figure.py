from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from optuna.trial import TrialState
from PIL import Image

from smnas_optuna.report.figure import draw_front, save_front_png, short_name
from smnas_optuna.report.summary import Summary, summarize

from .report_studies import FAST, MIDDLE, STRONG, add_trial, full_study, new_study


def many(count: int) -> Summary:
    study = new_study()
    for number in range(count):
        ap = (number + 1) / (count + 1)
        add_trial(study, (5.0 + number, ap), TrialState.COMPLETE, arch=STRONG, baseline=number == 0)
    return summarize(study)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_axes_say_what_they_show_and_points_lie_where_they_should() -> None:
    figure = draw_front(summarize(full_study()))
    axes = figure.axes[0]
    lines = {str(line.get_label()): line.get_xydata().tolist() for line in axes.lines}  # type: ignore[union-attr]

    assert axes.get_xlabel() == "latency on Intel Xeon CPU @ 2.20GHz, 2 threads (ms, batch 1)"
    assert axes.get_ylabel() == "COCO AP x100 on the validation images"
    assert lines["Pareto front"] == [[3.5, 6.25], [12.25, 20.0], [140.0, 50.0]]
    assert lines["baseline"] == [[12.25, 20.0]]
    assert np.array_equal(axes.collections[0].get_offsets(), [[12.25, 20.0], [30.0, 15.0], [3.5, 6.25], [140.0, 50.0]])
    assert legend(figure) == ["trained (darker: later generation)", "Pareto front", "baseline"]


def test_the_key_names_every_point_of_the_front() -> None:
    key = texts(draw_front(summarize(full_study()))).splitlines()[-3:]

    assert [line.split()[:3] for line in key] == [
        ["1", "3.5", "6.2"],
        ["2", "12.2", "20.0"],
        ["3", "140.0", "50.0"],
    ]
    assert [line.split(maxsplit=3)[3] for line in key] == [short_name(arch) for arch in (FAST, MIDDLE, STRONG)]


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
    save_front_png(many(count), tmp_path / "front.part")

    with Image.open(tmp_path / "front.part") as image:
        assert image.format == "PNG"
        edges = [image.convert("L").crop(box) for box in ((0, 0, image.width, 2), (image.width - 2, 0, *image.size))]
    assert [edge.getextrema() for edge in edges] == [(255, 255)] * 2  # nothing is cut off at the top or on the right


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
    assert short_name("x" * 80) == "x" * 64 + "…"


def test_short_name_shows_guided_anchoring() -> None:
    guided = MIDDLE.replace(".rpn.", ".ga.")

    assert short_name(guided) == "128x96 resnet18-w16 fpn-p2-p5-c64 ga fc-w256"


def test_a_long_name_widens_the_picture_and_is_not_cut() -> None:
    arch = "1333x800.mobilenet_v2-w64.fpn-p2-p6-c256-convc5.ga.cascade3-w1024"
    study = new_study()
    add_trial(study, (5.0, 0.5), TrialState.COMPLETE, arch=arch)
    figure = draw_front(summarize(study))

    assert short_name(arch) == arch.replace(".", " ")
    assert figure.get_figwidth() > draw_front(many(1)).get_figwidth()
    assert short_name(arch) in texts(figure)


def test_pyplot_knows_nothing_of_the_picture() -> None:
    draw_front(summarize(full_study()))

    assert pyplot.get_fignums() == []
