from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from smnas_optuna.final_training.probe import MEASUREMENTS, searched_pace
from smnas_optuna.final_training.schedule import Pace
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

from .trainings import ARCH, OTHER


@pytest.fixture
def session(drawn_dir: Path) -> Session:
    """Of a study that has 24 images for training and 12 for validation."""
    return prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu")


def test_what_the_search_took_tells_the_pace_and_before_it_nothing_does(session: Session) -> None:
    study = session.folder.create("structural", optuna.samplers.RandomSampler())
    assert searched_pace(session, ARCH, with_val=False) is None
    for arch, train_s in ((ARCH, 20.0), (OTHER, 60.0)):
        seconds = {"train": train_s, "evaluate": train_s / 10}
        attrs = {"arch": arch, "epochs_before": 1, "epochs_done": 3, "seconds": seconds}
        study.add_trial(create_trial(values=(1.0, 0.1), user_attrs=attrs))
    end_s = MEASUREMENTS * session.settings.latency.max_seconds

    assert searched_pace(session, ARCH, with_val=False) == Pace(epoch_s=10.0, evaluation_s=2.0, end_s=end_s)
    assert searched_pace(session, ARCH, with_val=True) == Pace(epoch_s=15.0, evaluation_s=0.0, end_s=end_s)
    unknown = "32x32.resnet18-w8.fpn-p3-p5-c8.none.retina"
    assert searched_pace(session, unknown, with_val=False) == Pace(epoch_s=20.0, evaluation_s=4.0, end_s=end_s)
