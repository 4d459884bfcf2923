from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smnas_optuna.report.figures.verify_figure import draw_verification, save_verification_png

from ..report_studies import FAST, MIDDLE, POOR, STRONG
from ..verifications import APS, summary, verification
from .pictures import around, assert_legible, edges, key, labelled, labels, legend, lines, texts


def means(figure: Figure) -> list[list[list[float]]]:
    """Of each series with error bars: latency, AP, and the lower and upper end of the bar."""
    found = []
    for container in figure.axes[0].containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, (bars,) = container.lines
        assert isinstance(line, Line2D)
        ends = [np.asarray(segment)[:, 1] for segment in bars.get_segments()]
        points = np.asarray(line.get_xydata())
        found.append([[*point, *end] for point, end in zip(points.tolist(), ends, strict=True)])
    return found


def test_means_have_bars_of_one_deviation_and_stand_beside_the_front_of_the_search() -> None:
    figure = draw_verification(verification(), summary())
    axes = figure.axes[0]
    drawn = lines(figure)

    val, test = means(figure)
    assert val[0] == pytest.approx([3.5, 6.0, 5.0, 7.0])
    assert val[3] == pytest.approx([140.0, 30.0, 29.0, 31.0])
    assert test[0] == pytest.approx([3.5, 5.0, 4.0, 6.0])
    assert drawn["front of the search"] == [[3.5, 6.25], [12.25, 20.0], [140.0, 50.0], [axes.get_xlim()[1], 50.0]]
    assert drawn["in the search: 8 epochs, one seed, validation"][2] == [30.0, 15.0]
    assert drawn["baseline"] == [[12.25, pytest.approx(32.0)], [30.0, pytest.approx(11.0)]]
    assert axes.get_xlabel() == "latency on Intel Xeon CPU @ 2.20GHz, 2 threads (ms, batch 1)"
    assert legend(figure) == [
        "front of the search",
        "in the search: 8 epochs, one seed, validation",
        "baseline",
        "16 epochs, mean of 3 seeds, validation (bars: one standard deviation)",
        "16 epochs, mean of 3 seeds, test",
    ]


def test_the_key_has_the_exact_architecture_of_every_labelled_point() -> None:
    figure = draw_verification(verification(), summary())
    rows = key(figure)

    assert around(figure)[0] == "Verification, stage 1 (structural)"
    assert rows[0].split() == ["ms", "search", "validation", "test", "architecture"]
    assert rows[2].split() == ["2", "12.2", "20.0", "32.0", "±", "2.6", "30.0", "±", "2.6", MIDDLE]
    assert [row.split()[-1] for row in rows[1:]] == [FAST, MIDDLE, POOR, STRONG]
    assert [point[0] for point in labelled(figure).values()] == [3.5, 12.25, 30.0, 140.0]
    assert list(labelled(figure)) == ["1", "2", "3", "4"]


def test_every_mean_has_a_label() -> None:
    figure = draw_verification(verification(), summary())

    assert labels(figure)[1].get_text() == "2  AP 32.0 ± 2.6 at 12.2 ms\n128x96 resnet18-w16 fc-w256"
    assert_legible(figure)


def test_no_label_covers_what_it_is_compared_with() -> None:
    axes = draw_verification(verification(), summary()).axes[0]
    shown = [axes.transData.transform(line.get_xydata()) for line in axes.lines if line.get_marker() == "o"]
    boxes = [note.get_window_extent() for note in axes.texts]

    assert sum(len(points) for points in shown) >= 8, "of the search and means"
    assert not [1 for points in shown for x, y in points for box in boxes if box.contains(x, y)]


def test_bars_are_inside_the_axes() -> None:
    wide = dict.fromkeys(APS, (0.0, 0.5, 1.0))
    axes = draw_verification(verification(wide, wide), summary()).axes[0]

    assert axes.get_ylim()[1] > 100


@pytest.mark.parametrize("test_images", [True, False])
def test_one_seed_and_none_draw_inside_the_picture(test_images: bool, tmp_path: Path) -> None:
    one = {arch: aps[:1] for arch, aps in APS.items()}
    none = dict.fromkeys(APS, ())
    for aps in (APS, one, none):
        save_verification_png(verification(aps, aps if test_images else None), summary(), tmp_path / "picture")

        assert edges(tmp_path / "picture") == [(255, 255)] * 4
    assert texts(draw_verification(verification(none, None), summary())) == "no training is finished yet"


def test_pyplot_knows_nothing_of_the_picture() -> None:
    draw_verification(verification(), summary())

    assert pyplot.get_fignums() == []
