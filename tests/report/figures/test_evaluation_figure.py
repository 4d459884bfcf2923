from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.report.figures.evaluation_figure import (
    draw_classes,
    draw_confusion,
    draw_curves,
    save_confusion_png,
    subject_lines,
)
from smnas_optuna.session.trained import Trained

from ...evaluation.evaluated_data import dataset, detection, drawn, evaluated

ARCH = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
LEFT, RIGHT = (0.0, 0.0, 20.0, 20.0), (80.0, 0.0, 20.0, 20.0)


@pytest.fixture(scope="module")
def many() -> Evaluated:
    data, found = drawn(1, images=40)
    return evaluated(data, found)


def test_bars_are_the_aps_with_the_best_class_on_top(many: Evaluated) -> None:
    axes = draw_classes(many).axes[0]

    aps = sorted(100 * each.ap for each in many.classes)
    names = [each.name for each in sorted(many.classes, key=lambda each: each.ap)]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(aps)  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    counts = {each.name: f"{each.objects} in {each.images}" for each in many.classes}
    assert [text.get_text() for text in axes.texts[:3]] == [counts[name] for name in names]
    assert axes.lines[0].get_xdata() == pytest.approx(
        [100 * many.counts[[each.name for each in many.classes].index(name)].f1 for name in names]
    )


def test_a_class_without_objects_has_no_bar() -> None:
    found = evaluated(dataset([(1, 0, LEFT)]), [detection(1, 0, LEFT, 0.9)])

    assert len(draw_classes(found).axes[0].patches) == 1


def test_curves_end_where_the_numbers_do(many: Evaluated) -> None:
    left, right = draw_curves(many).axes

    for place, curve in enumerate(many.curves):
        expected = np.stack((curve.recall, curve.precision), axis=1)
        np.testing.assert_allclose(np.asarray(left.lines[place].get_xydata()), expected)
        dot = right.lines[2 * place + 1]
        assert dot.get_xdata() == [many.thresholds[place]]
        assert dot.get_ydata() == [many.counts[place].f1]


def test_f1_fills_its_panel() -> None:
    found = evaluated(
        dataset([(1, 0, LEFT), (1, 0, RIGHT), (1, 0, (40.0, 40.0, 20.0, 20.0))]), [detection(1, 0, LEFT, 0.4)]
    )

    left, right = draw_curves(found).axes

    assert right.get_xlim() == pytest.approx((0, 0.42))
    assert right.get_ylim() == pytest.approx((0, 0.525))  # 1 of 3 objects found: F1 is a half
    assert left.get_xlim() == (0, 1)

    above = draw_curves(replace(found, thresholds=[0.8, 0.2])).axes[1]

    assert above.get_xlim() == pytest.approx((0, 0.84))  # the dots are seen


def test_the_confusion_is_as_wide_as_the_picture(many: Evaluated) -> None:
    figure = draw_confusion(many)

    figure.draw_without_rendering()

    assert figure.axes[0].get_position().x1 > 0.98


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"study/runs/{ARCH}", [f"runs/{ARCH}"]),
        (f"study/trained/{ARCH}.epochs2", [f"trained/{ARCH}.epochs2"]),
        ("study/trained/mine", [f"trained/mine: {ARCH}"]),
        (f"study/trained/{'n' * 150}", ["trained/" + "n" * 87, "n" * 63 + ":", ARCH]),
    ],
)
def test_pictures_name_the_weights(many: Evaluated, path: str, expected: list[str]) -> None:
    subject = replace(many.subject, path=Path(path), arch=ARCH, source=cast(Trained, None))

    lines = subject_lines(subject)

    assert lines[: len(expected)] == expected
    for draw in (draw_classes, draw_curves, draw_confusion):
        title = draw(replace(many, subject=subject)).get_suptitle()
        assert title.splitlines()[1:] == lines


def test_cells_of_the_confusion_have_their_counts(many: Evaluated) -> None:
    axes = draw_confusion(many).axes[0]

    table = many.confusion
    written = {(text.get_position()[1], text.get_position()[0]): int(text.get_text()) for text in axes.texts}
    assert written == {(row, column): table[row, column] for row, column in zip(*np.nonzero(table), strict=True)}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c", "missed"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "no object"]


@pytest.mark.parametrize("draw", [draw_classes, draw_curves, draw_confusion])
def test_nothing_found_is_drawn_too(draw: object) -> None:
    found = evaluated(dataset([(1, 0, LEFT)]), [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(found)  # type: ignore[operator]
        assert isinstance(figure, Figure)
        figure.canvas.draw()


def test_names_are_no_formulas_and_are_cut(tmp_path: Path) -> None:
    data = replace(dataset([(1, 0, LEFT), (1, 1, RIGHT)]), category_names=("$a_{$", "n" * 100))
    found = evaluated(data, [detection(1, 0, LEFT, 0.9), detection(1, 1, LEFT, 0.8)])

    for draw in (draw_classes, draw_curves, draw_confusion):
        draw(found).canvas.draw()
    save_confusion_png(found, tmp_path / "a.part")

    axes = draw_confusion(found).axes[0]
    assert axes.get_xticklabels()[1].get_text() == "n" * 23 + "…"
    with Image.open(tmp_path / "a.part") as image:
        assert image.format == "PNG"
