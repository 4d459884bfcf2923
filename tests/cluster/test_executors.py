"""The executors, here and on a cluster, do the same: the same tests, and the same weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smnas_optuna.arch import decode
from smnas_optuna.cluster.connection import connected
from smnas_optuna.cluster.executor import OnCluster
from smnas_optuna.cluster.workforce import Crowd
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.session.executor import Executor, Job, TooSlow, Trained, Watch
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .clusters import LocalCluster, local_cluster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]
pytest.importorskip("ray")

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
EPOCHS = 3


class Told(Watch):
    """Keeps what it is told, as text, without seconds; stops or prunes where it is told to."""

    def __init__(self, stop: StopRequest, *, stop_at: int | None = None, prune_at: int | None = None) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._stop, self._stop_at, self._prune_at = stop, stop_at, prune_at

    def note(self, line: str) -> None:
        self.notes.append(line)

    def begun(self, history: Sequence[EpochReport], device: Mapping[str, str | int]) -> None:
        self.lines.append(f"begun after {len(history)} on {device['kind']}")

    def step(self, phase: str, done: int, total: int) -> None:
        self._stop.check()

    def epoch(self, report: EpochReport) -> None:
        self.lines.append(f"epoch {report.epoch} of {report.epochs}: {report.loss!r}")
        if report.epoch == self._stop_at:
            self._stop.ask(15)
            self._stop.check()

    def measured(self, epoch: int, metrics: CocoMetrics) -> None:
        self.lines.append(f"measured {epoch}: {metrics!r}")

    def standing(self, ap_by_epoch: Mapping[int, float], rung: int | None) -> None:
        self.lines.append(f"standing {dict(ap_by_epoch)!r} at {rung}")
        if rung is not None and rung == self._prune_at:
            raise PrunedError


class PrunedError(Exception):
    pass


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("cluster"), nodes=1) as cluster:
        yield cluster


@contextmanager
def executing(kind: str, session: Session, cluster: Callable[[], LocalCluster]) -> Iterator[Executor]:
    """An executor of that kind; the body has the baton."""
    if kind == "in process":
        yield session.executor
        return
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray = stack.enter_context(connected(cluster().address))
        crowd = Crowd(ray, "structural", 1, lambda _: Listener())
        executor = crowd.equip(session).executor
        assert isinstance(executor, OnCluster)
        stack.enter_context(executor.baton.held())
        yield executor


@pytest.fixture(params=["in process", "on a cluster"])
def executor(request: pytest.FixtureRequest, session: Session) -> Iterator[Executor]:
    with executing(request.param, session, lambda: request.getfixturevalue("cluster")) as executor:
        yield executor


@pytest.fixture
def session(drawn_dir: Path) -> Session:
    return prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu")


def job_of(session: Session, **changes: object) -> Job:
    folder = session.folder.runs / "x"
    job = Job(
        spec=decode(ARCH),
        seed=7,
        recipe=session.settings.train.model_copy(update={"epochs": EPOCHS}),
        checkpoint=folder / "checkpoint.safetensors",
        key={"seed": 7},
        make_folder=lambda: folder.mkdir(parents=True, exist_ok=True),
        rungs=(1, 2),
    )
    return replace(job, **changes)  # type: ignore[arg-type]


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.detector.state_dict()


def assert_equal(one: Trained, other: Trained) -> None:
    assert weights(one).keys() == weights(other).keys()
    assert all(torch.equal(weights(one)[name], weights(other)[name]) for name in weights(one))
    assert repr(one.metrics) == repr(other.metrics)  # some are NaN
    assert one.skipped_steps == other.skipped_steps
    assert one.found.keys() == other.found.keys()


def test_a_training_is_told_and_gives_the_same_detector_as_in_this_process(
    executor: Executor, session: Session
) -> None:
    here, there = Told(session.stop), Told(session.stop)
    expected = session.executor.train(job_of(session), here)
    job_of(session).checkpoint.unlink()

    trained = executor.train(job_of(session), there)

    assert_equal(trained, expected)
    assert there.lines == here.lines
    assert [line.split(":")[0] for line in there.lines] == [
        "begun after 0 on cpu",
        "epoch 1 of 3",
        "measured 1",
        "standing {1",
        "epoch 2 of 3",
        "measured 2",
        "standing {1",
        "epoch 3 of 3",
        "standing {1",
    ]


def test_a_stopped_training_goes_on_from_its_checkpoint_to_the_same_detector(
    executor: Executor, session: Session
) -> None:
    expected = session.executor.train(job_of(session), Told(session.stop))
    job_of(session).checkpoint.unlink()
    stop = StopRequest()
    with pytest.raises(Interrupted):
        executor.train(job_of(session), Told(stop, stop_at=1))
    assert job_of(session).checkpoint.is_file()
    again = Told(session.stop)

    trained = executor.train(job_of(session), again)

    assert_equal(trained, expected)
    assert again.lines[0] in ("begun after 1 on cpu", "begun after 2 on cpu")
    assert not any(line.startswith("epoch 1 ") for line in again.lines)


def test_a_pruned_training_ends_and_the_next_one_begins(executor: Executor, session: Session) -> None:
    told = Told(session.stop, prune_at=1)
    with pytest.raises(PrunedError):
        executor.train(job_of(session), told)
    assert told.lines[-1].startswith("standing {1: ")
    job_of(session).checkpoint.unlink()

    trained = executor.train(job_of(session, rungs=()), Told(session.stop))

    assert trained.metrics.keys() == {"val"}


def test_a_training_that_would_take_too_long_says_how_long(executor: Executor, session: Session) -> None:
    with pytest.raises(TooSlow) as slow:
        executor.train(job_of(session, max_seconds=1e-6), Told(session.stop))
    assert slow.value.seconds > 1e-6


def test_a_checkpoint_of_another_training_is_set_aside(executor: Executor, session: Session) -> None:
    executor.train(job_of(session, recipe=session.settings.train, rungs=()), Told(session.stop))
    told = Told(session.stop)

    executor.train(job_of(session, key={"seed": 8}, recipe=session.settings.train, rungs=()), told)

    assert told.lines[0] == "begun after 0 on cpu"
    assert any("set aside" in note for note in told.notes)
