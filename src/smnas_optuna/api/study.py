"""A study folder in Python: its front, its trials and its detectors. No torch before one of these is used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from smnas_optuna.api.arguments import check_word
from smnas_optuna.api.load import load_detector
from smnas_optuna.api.trial import Trial, trial_of
from smnas_optuna.config import DeviceChoice
from smnas_optuna.config.study_file import STUDY_FILE
from smnas_optuna.errors import StudyError
from smnas_optuna.paths import at_home
from smnas_optuna.report.choice import chosen
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.report.tables import counts_line
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.search.request import Request
from smnas_optuna.study.choice import Pick, choose
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import StageName
from smnas_optuna.study.storage import explained_disk_errors

if TYPE_CHECKING:
    from smnas_optuna.api.detector import TrainedDetector
    from smnas_optuna.api.events import Callback
    from smnas_optuna.api.picture import Picture
    from smnas_optuna.ship.request import Precision


def open_study(study_dir: str | os.PathLike[str]) -> OpenStudy:
    """Return the study in ``study_dir``; nothing in the folder changes before something is searched or exported.

    Args:
        study_dir: Folder with a ``study.toml``, such as ``studies/shapes``; ``~`` is the home folder.

    Raises:
        StudyError: If there is no such folder, there is neither a study file nor a study in it, or its database cannot
            be used.
    """
    path = at_home(study_dir)
    if not path.is_dir():
        raise StudyError(f"{path}: there is no such folder", fix="name the folder of a study, such as studies/shapes")
    study = OpenStudy(path)
    if study.has_begun or not (path / STUDY_FILE).is_file():
        study.front()
    return study


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of a search.

    Attributes:
        trial: The trial that ended.
        front: The front after it, fastest first; see :meth:`OpenStudy.front`.
    """

    trial: Trial
    front: list[Trial]


class OpenStudy:
    """A study folder: what was found in it, and searches that find more; see :func:`open_study`.

    Every call reads the study anew, so that it also shows a search while it runs; only detectors are loaded once.

    Attributes:
        path: The study folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = StudyFolder(path)
        self._detectors: dict[tuple[str | None, DeviceChoice], TrainedDetector] = {}

    @property
    def has_begun(self) -> bool:
        """True once a search has begun here.

        Raises:
            StudyError: If the database cannot be used.
        """
        return self._folder.structural is not None

    def search(
        self,
        stage: StageName = "structural",
        *,
        trials: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        device: DeviceChoice = "auto",
        ray: str | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Iterator[Step]:
        """Search a stage, and yield a step whenever a trial ends: ``smnas structural`` and ``smnas modular``.

        Finished trials are kept, and an interrupted one goes on. The search is one worker, in a thread of this process;
        the command line has several, on all GPUs. It stops at its next step when the loop over it is left, or the
        iterator is closed. What it would print goes to the logger ``smnas_optuna``.

        Args:
            stage: ``structural`` (stage 1) or ``modular`` (stage 2, inside the structures that won).
            trials: Budget: number of architectures to train, earlier runs included; by default that of ``study.toml``.
            data_dir: The data folder; by default that of the last search, or ``data`` in the study folder.
            device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.
            ray: Address of a Ray cluster whose nodes train, as for ``--ray``; by default this machine trains.
            callbacks: Called with each event (:mod:`smnas_optuna.api.events`), such as those of
                :mod:`smnas_optuna.loggers`, in the thread that searches. One that raises gets no more of them.

        Raises:
            SmnasError: If the settings, the data, the study or the device cannot be used, or another process searches
                this folder.
        """
        from smnas_optuna.api.search import ended_trials

        check_word("stage", stage, get_args(StageName))
        check_word("device", device, get_args(DeviceChoice))
        if trials is not None and trials < 1:
            raise StudyError(f"trials={trials}: nothing would be trained", fix="take 1 or more, or leave it out")

        request = Request(
            study_dir=self.path,
            stage=stage,
            trials=trials,
            data_dir=None if data_dir is None else at_home(data_dir),
            device=device,
            ray=ray,
        )
        for record in ended_trials(request, callbacks):
            self._detectors.clear()
            front = self._summary().front
            on_front = (record.study, record.number) in {(member.study, member.number) for member in front}
            yield Step(
                trial=trial_of(record, self._folder, on_front=on_front),
                front=[trial_of(member, self._folder, on_front=True) for member in front],
            )

    def front(self) -> list[Trial]:
        """The Pareto front of all stages, fastest first, as ``smnas front`` shows it.

        Its members are the trained architectures within the limits that no other one beats in latency and AP. These
        limits are those of the last search, whatever ``study.toml`` says by now.

        It is that of stage 2 alone if the recipes of the stages differ, because their APs do not compare.

        Raises:
            StudyError: If the database cannot be used any more.
        """
        return [trial_of(record, self._folder, on_front=True) for record in self._summary().front]

    def trials(self) -> list[Trial]:
        """All trials, structural ones first, those of a study in the order of their numbers.

        ``pandas.DataFrame(study.trials())`` is a table of them.

        Raises:
            StudyError: If the database cannot be used any more.
        """
        summary = self._summary()
        front = {(record.study, record.number) for record in summary.front}
        return [
            trial_of(record, self._folder, on_front=(record.study, record.number) in front)
            for record in summary.records
        ]

    def best(self, *, latency_ms: float | None = None) -> Trial:
        """The most accurate member of the front.

        Args:
            latency_ms: Only members that take no longer than this, in the study's milliseconds, are asked.

        Raises:
            StudyError: If the front is empty, or none of its members is that fast.
        """
        return self._picked(Pick(latency_ms=latency_ms))

    def knee(self) -> Trial:
        """The member of the front behind which more latency buys least; see :func:`smnas_optuna.study.pareto.knee`.

        Raises:
            StudyError: If the front is empty.
        """
        return self._picked(Pick(knee=True))

    def detector(self, which: Trial | str | None = None, *, device: DeviceChoice = "auto") -> TrainedDetector:
        """A detector with the best weights that are kept of it, loaded once until this object searches or trains again.

        Of the search, ``smnas verify`` and ``smnas train`` those weights are taken that have the highest AP.

        Args:
            which: A trial, an architecture or its name; the most accurate member of the front if it is None.
            device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.

        Raises:
            SmnasError: If there is no such detector or device, or its weights are not kept.
        """
        pick = _pick(which)
        key = pick.arch, device
        if key not in self._detectors:
            with explained_disk_errors(self.path):
                weights = chosen(self._folder, pick).weights
            self._detectors[key] = load_detector(weights.folder, device=device)
        return self._detectors[key]

    def train(
        self,
        which: Trial | str | None = None,
        *,
        epochs: int | None = None,
        hours: float | None = None,
        with_val: bool = False,
        name: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        device: DeviceChoice = "auto",
        ray: str | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Path:
        """Train a detector from scratch for longer, and return the folder of its weights: ``smnas train``.

        The same call goes on after anything; once it has finished, it returns at once. :meth:`detector` and
        :meth:`export` take its weights from then on if their AP on the validation images is no lower. What it would
        print goes to the logger ``smnas_optuna``.

        Args:
            which: As in :meth:`detector`; its weights need not be kept.
            epochs: Epochs; by default five times those of the search.
            hours: Time that it may take, in the place of ``epochs``.
            with_val: Train on the validation images, too; there must be test images.
            name: Name of the training; by default it says the architecture and the epochs.
            data_dir: The data folder; by default that of the last search, or ``data`` in the study folder.
            device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.
            ray: As in :meth:`search`.
            callbacks: As in :meth:`search`.

        Raises:
            SmnasError: If there is no such detector, data or device cannot be used, or there is another training of
                this name.
        """
        from smnas_optuna.api.train import train_chosen

        check_word("device", device, get_args(DeviceChoice))

        folder = train_chosen(
            self.path,
            _pick(which),
            epochs=epochs,
            hours=hours,
            with_val=with_val,
            name=name,
            data_dir=None if data_dir is None else at_home(data_dir),
            device=device,
            ray=ray,
            callbacks=callbacks,
        )
        self._detectors.clear()
        return folder

    def predict(self, image: Picture, which: Trial | str | None = None, *, device: DeviceChoice = "auto") -> Detections:
        """Detect the objects in one image with :meth:`detector`; all of them, whatever their score.

        Args:
            image: Path, PIL image, numpy array (uint8 [H, W, 3] in RGB) or tensor ([3, H, W], uint8 or in [0, 1]).
            which: As in :meth:`detector`.
            device: As in :meth:`detector`.

        Returns:
            Boxes in pixels of the image as given; of a file, as it is seen when its EXIF data has turned it.

        Raises:
            SmnasError: If there is no such detector or device, or the image cannot be read.
        """
        return self.detector(which, device=device).predict(image)

    def export(
        self,
        which: Trial | str | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        precision: Precision = "fp32",
        allow_loss: bool = False,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Write a detector as one ONNX file, proved on the validation images, and return its path: ``smnas export``.

        Args:
            which: As in :meth:`detector`.
            output: File to write; by default ``<arch>.onnx`` (with the precision, if it is not fp32) in the working
                folder.
            precision: Precision of weights and activations.
            allow_loss: Write the file even if a lower precision loses AP or is no faster.
            data_dir: The data folder; by default that of the last search, or ``data`` in the study folder.

        Raises:
            SmnasError: If there is no such detector, its weights or its data cannot be used, or the file is not
                proved; no file is written then.
        """
        from smnas_optuna.api.export import export_chosen  # loads torch, which takes seconds
        from smnas_optuna.session.listener import Listener
        from smnas_optuna.ship.request import Precision, ShipRequest
        from smnas_optuna.workers.interrupt import StopRequest

        check_word("precision", precision, get_args(Precision))
        request = ShipRequest(
            study_dir=self.path,
            output=None if output is None else at_home(output),
            precision=precision,
            allow_loss=allow_loss,
            data_dir=None if data_dir is None else at_home(data_dir),
        )
        return export_chosen(request, _pick(which), listener=Listener(), stop=StopRequest()).path

    def __repr__(self) -> str:
        counts = counts_line(self._summary()) if self.has_begun else "not begun"
        return f"OpenStudy({str(self.path)!r}, {counts})"

    def _picked(self, pick: Pick) -> Trial:
        record = choose(self._folder, pick, self._summary().front).record
        assert record is not None  # only an architecture may be chosen beside the front
        return trial_of(record, self._folder, on_front=True)

    def _summary(self) -> Summary:
        with explained_disk_errors(self.path):
            return summarize(*self._folder.of_stage(None), name=self._folder.path.resolve().name)


def _pick(which: Trial | str | None) -> Pick:
    if isinstance(which, Trial):
        if which.arch is None:
            raise StudyError(f"{which!r} has no architecture", fix="take one of the front: study.front()")
        return Pick(arch=which.arch)
    return Pick(arch=which)
