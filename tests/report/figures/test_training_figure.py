from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from smnas_optuna.report.figures.training_figure import draw_training, save_training_png

from .pictures import around, assert_legible, steps, texts


def curve(*epochs: tuple[float | None, float | None], of: int = 4) -> dict[str, Any]:
    rows = [{"epoch": number, "loss": loss, "ap": ap} for number, (loss, ap) in enumerate(epochs, start=1)]
    return {"arch": "an-arch", "of": of, "epochs": rows}


def test_loss_and_ap_are_drawn_over_epochs_and_the_best_is_marked() -> None:
    figure = draw_training(curve((2.0, None), (1.5, 0.3), (None, None), (1.0, 0.25)), "mine")
    loss, ap = figure.axes

    assert steps(loss.lines[0]) == [[1.0, 2.0], [2.0, 1.5], [4.0, 1.0]]
    assert steps(ap.lines[0]) == [[2.0, 30.0], [4.0, 25.0]]
    assert steps(ap.lines[1]) == [[2.0, 30.0]]
    assert (loss.get_ylabel(), ap.get_ylabel()) == ("training loss", "AP x100 on the validation images")
    assert loss.get_xlabel() == "epoch"
    assert around(figure) == ["mine", "an-arch, 4 of 4 epochs", "best AP (x100) 30.0 after epoch 2, which is circled"]
    assert loss.get_position().bounds == ap.get_position().bounds
    assert not pyplot.get_fignums()


def test_without_ap_there_is_one_axis_and_without_an_epoch_a_sentence() -> None:
    assert len(draw_training(curve((2.0, None)), "mine").axes) == 1
    assert texts(draw_training(curve(), "mine")) == "no epoch is finished yet"


@pytest.mark.parametrize("count", [1, 5, 60])
def test_everything_can_be_read(tmp_path: Path, count: int) -> None:
    rows = [(2.0 / number, 0.5 - 0.4 / number) for number in range(1, count + 1)]

    assert_legible(draw_training(curve(*rows, of=60), "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256.epochs60"))
    save_training_png(curve(*rows), "mine", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
