from __future__ import annotations

from pathlib import Path

from smnas_optuna.report.study_page.learning import read_learning_curve

LOG = """\
2026-11-29T22:38:08+00:00 trial 1: ARCH, seed 1
2026-11-29T22:38:28+00:00 epoch 1/3: loss 2.1842, 0 steps skipped, 9.9 s
2026-11-29T22:38:30+00:00 epoch 1: AP 0.0315
2026-11-29T22:38:39+00:00 epoch 2/3: loss 1.6964, 0 steps skipped, 8.8 s
2026-11-29T22:40:39+00:00 epoch 2/3: loss 1.7000, 0 steps skipped, 8.8 s
2026-11-29T22:40:55+00:00 epoch 3/3: loss nan, 4 steps skipped, 15.5 s
"""


def _run(folder: Path, text: str) -> Path:
    (folder / "train.log").write_text(text)
    return folder


def test_a_curve_has_the_last_loss_of_each_epoch(tmp_path: Path) -> None:
    curve = read_learning_curve(_run(tmp_path, LOG))

    assert curve is not None
    assert curve.losses == {1: 2.1842, 2: 1.7}


def test_a_second_training_of_the_same_architecture_replaces_the_first(tmp_path: Path) -> None:
    again = "2026-11-30T22:38:28+00:00 epoch 1/3: loss 9.5, 0 steps skipped, 9.9 s\n"
    curve = read_learning_curve(_run(tmp_path, LOG + again))

    assert curve is not None
    assert curve.losses == {1: 9.5}


def test_no_log_and_a_log_of_something_else_are_no_curve(tmp_path: Path) -> None:
    assert read_learning_curve(tmp_path) is None
    assert read_learning_curve(_run(tmp_path, "t epoch 1/2: loss 1.2.3, x\nepoch 1/2: loss\n")) is None
