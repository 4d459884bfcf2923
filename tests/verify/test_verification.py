from __future__ import annotations

from pathlib import Path

from optuna.trial import create_trial

from smnas_optuna.study.record import read_record
from smnas_optuna.verify.verification import candidates_of

from ..conftest import TINY_STUDY


def test_a_baseline_that_is_written_out_is_found_among_the_trained(tmp_path: Path) -> None:
    old, new = "32x32.basicblock-w4-conv7-11-21-21-21", "32x32.resnet18-w4"
    (tmp_path / "study.toml").write_text(TINY_STUDY.replace(f'"{new}.', f'"{old}.'))
    record = read_record(create_trial(values=(1.0, 0.5), user_attrs={"arch": f"{new}.fpn-p3-p5-c8.none.retina"}))

    (candidate,) = candidates_of(tmp_path, [], [record], (2.0, 0.0), top=1)

    assert (candidate.arch, candidate.baseline) == (record.arch, True)
