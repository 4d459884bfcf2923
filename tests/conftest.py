"""A study small enough for a test: 24 drawn images of 64 x 64 px, detectors of 20 thousand parameters."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from hypothesis import settings

from smnas_optuna.engine import cpu_watch
from smnas_optuna.session import resumable
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.machine import CACHE
from smnas_optuna.workers.interrupt import StopRequest

from .commands import smnas

# In CI a commit passes or fails, and not now and then; at home every run looks at other examples.
# Neither measures how long one takes: on a busy machine any of them may be slow.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("home", derandomize=False, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "home")

# So small a detector gains nothing from a second thread, and waits for it where other processes are busy.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder() -> Iterator[None]:
    """Tests in processes side by side do not pause for one another's latencies; the lock for that lies there."""
    folders = tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True)  # processes of Ray end a bit later
    with folders as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o1777)  # as root's tests start a server as another user
        patch.setenv("TMPDIR", folder)
        patch.setenv(CACHE, f"{folder}/cache")
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has measured in other tests does not change the milliseconds of this one."""
    monkeypatch.setenv(CACHE, str(tmp_path_factory.getbasetemp() / "caches" / uuid4().hex))


@pytest.fixture(scope="session", autouse=True)
def load_unknown() -> Iterator[None]:
    """Measurements in this process neither wait nor say a word because the tests' own machine is busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_watch, "read_foreign_seconds", lambda: None)
        yield


TINY_STUDY = """
[data]
val = "instances_val.json"
[data.shapes]
train_images = 24
val_images = 12
width = 64
height = 64
[space.structural]
input_sizes = ["32x32", "64x64"]
backbones = ["resnet18"]
backbone_widths = [4, 8]
necks = ["c4", "fpn"]
neck_min_levels = [2, 3]
neck_max_levels = [5]
neck_channels = [8, 16]
rpns = ["rpn", "ga"]
heads = ["retina", "fc", "cascade2"]
head_widths = [16, 32]
[space.modular]
base_channels = [4, 8]
max_blocks = 9
neck_channels = [8, 16]
head_widths = [16, 32]
[modular]
parents = 2
trials = 4
[search]
trials = 5
population = 3
baselines = ["64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32", "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"]
[detector]
anchor_scale = 4
train_proposals = 50
test_proposals = 30
guided_proposals = 20
rpn_samples = 32
roi_samples = 16
guided_roi_samples = 16
score_threshold = 0.01
[train]
epochs = 2
batch_size = 8
[latency]
runtime = "eager"
images = 4
precision = 0.5
max_seconds = 0.5
"""


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(TINY_STUDY)
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder whose images are drawn and checked, made once; for :func:`drawn_dir`."""
    folder = tmp_path_factory.mktemp("drawn") / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(TINY_STUDY)
    prepare(StudyFolder(folder), listener=Listener(), stop=StopRequest(), device="cpu")
    return folder


@pytest.fixture
def drawn_dir(drawn: Path, study_dir: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(drawn, study_dir, dirs_exist_ok=True))


@pytest.fixture
def enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is known to fit into main memory: to estimate that takes longer than to train a detector this small.

    test_resumable.py has the estimate, and the trainings of the slow tier that run in processes of their own do.
    """
    monkeypatch.setattr(resumable, "fitting_images", lambda testbed, *_: testbed.settings.train.batch_size)


@pytest.fixture(scope="session")
def baselines_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose two baselines are trained, made once; for :func:`trained_dir`."""
    folder = tmp_path_factory.mktemp("trained") / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(TINY_STUDY)
    smnas("structural", folder, "--device", "cpu", "--workers", "1", "--trials", "2")
    return folder


@pytest.fixture
def trained_dir(baselines_trained: Path, study_dir: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(baselines_trained, study_dir, dirs_exist_ok=True))
