"""Gathers what is known of the detectors of a study, from its folder and its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from smnas_optuna.arch import DetectorConstants, canonical
from smnas_optuna.config import StudySettings
from smnas_optuna.data import CocoDataset, ImageRecord
from smnas_optuna.errors import ArchError, SmnasError
from smnas_optuna.final_training.record import TrainingRecord, finished_trainings
from smnas_optuna.page import Html
from smnas_optuna.real_files import is_regular_file
from smnas_optuna.report.choice import better_weights, verified_runs
from smnas_optuna.report.study_page.detecting import MOST_DETECTORS, Patience, detect_in, kept_detections
from smnas_optuna.report.study_page.known import Known
from smnas_optuna.report.study_page.learning import LearningCurve, read_learning_curve
from smnas_optuna.report.study_page.modules import Module, modules_of
from smnas_optuna.report.study_page.pictures import pictures, stored_images
from smnas_optuna.report.study_page.points import PagePoint, members_of
from smnas_optuna.report.study_page.stored_evaluation import StoredEvaluation, of_arch, stored_evaluations
from smnas_optuna.session.samples import Detections, choose_images, read_found
from smnas_optuna.study.choice import WEIGHTS_FILE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import contributions, points_of, reference_point
from smnas_optuna.verify.results import SeedRun

MOST_COUNTED = 16
"""Detectors whose modules are counted: it takes a third of a second for each."""
Progress = Callable[[int, int], None]
"""Called with (images done, all images); may raise to stop."""
NOT_COUNTED = (
    f"The modules are counted of baselines, and of the members that the front would miss most: {MOST_COUNTED}."
)
NO_TIME = (
    f"A report runs {MOST_DETECTORS} detectors itself, within some minutes. For this one: smnas evaluate, then again."
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PageData:
    """The validation images of the page.

    Attributes:
        dataset: All validation images.
        content: Hash of training and validation data.
        images: Those on the page.
        stored: The same as hidden elements of the page.
    """

    dataset: CocoDataset
    content: str
    images: Sequence[ImageRecord]
    stored: Html


def page_data(dataset: CocoDataset, content: str) -> PageData:
    """Return the images of a page, decoded.

    Raises:
        DataError: If an image cannot be decoded any more.
    """
    images = choose_images(dataset)
    return PageData(dataset=dataset, content=content, images=images, stored=stored_images(images))


def most_valuable(points: Sequence[PagePoint]) -> list[PagePoint]:
    """Return the ``MOST_COUNTED`` named points that matter most: baselines, then members by what they add to the front.

    That is the area that the front would lose without a member.
    """
    members = members_of(points)
    records = [point.record for point in members]
    lost = contributions(records, reference_point(points_of(records)))
    value = {id(point): area for point, area in zip(members, lost, strict=True)}
    named = [point for point in points if point.named]
    return sorted(named, key=lambda point: -(math.inf if point.record.baseline else value[id(point)]))[:MOST_COUNTED]


class Gatherer:
    """What is known of detectors. Counts and detections are kept from one call to the next, as a page is rewritten.

    Args:
        folder: The study folder.
        settings: Its settings; None if they cannot be read.
        num_classes: Number of classes of the data; None if it is not known.
        data: The validation images, or why there are none, in words.
        at_work: Entered while a detector runs.
        progress: Receives the progress of detection.

    Attributes:
        detects: False shows only what has been detected.
    """

    def __init__(
        self,
        folder: StudyFolder,
        settings: StudySettings | None,
        num_classes: int | None,
        data: PageData | str,
        *,
        at_work: Callable[[], AbstractContextManager[None]] = nullcontext,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._folder, self._data, self._at_work, self._progress = folder, data, at_work, progress
        self._num_classes = num_classes or 0
        self._constants = DetectorConstants() if settings is None else settings.detector.constants()
        self._modules: dict[str, list[Module]] = {}
        self._curves: dict[tuple[str, int], LearningCurve | None] = {}
        self._detections: dict[tuple[str, int], Detections | str] = {}
        self.detects = True

    @property
    def stored_images(self) -> Html:
        """The images, hidden, that the panels show."""
        return Html() if isinstance(self._data, str) else self._data.stored

    def known_of(self, points: Sequence[PagePoint]) -> list[Known]:
        """Return what is known of each of ``points``. Only the named ones have modules, evaluations and pictures.

        Raises:
            SmnasError: If results in the study folder are damaged, or an image cannot be decoded any more.
        """
        runs, trainings = verified_runs(self._folder), list(finished_trainings(self._folder))
        better = better_weights(self._folder, [point.record for point in points])
        evaluations, patience = stored_evaluations(self._folder.path), Patience()
        rank = {id(point): place for place, point in enumerate(most_valuable(points))}
        total = self._to_detect(points, evaluations)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            self._progress(done, max(done, total))

        def known(point: PagePoint) -> Known:
            again = better.get(point.arch)
            found = self._known(point, runs, trainings, evaluations, patience, step, counted=id(point) in rank)
            return found if again is None else replace(found, weights=again.folder)

        in_turn = {
            id(point): known(point) for point in sorted(points, key=lambda point: rank.get(id(point), len(rank)))
        }
        return [in_turn[id(point)] for point in points]

    def _known(
        self,
        point: PagePoint,
        runs: Sequence[SeedRun],
        trainings: Sequence[tuple[str, TrainingRecord]],
        evaluations: Sequence[tuple[Path, StoredEvaluation]],
        patience: Patience,
        step: Callable[[], None],
        *,
        counted: bool,
    ) -> Known:
        run = self._run(point)
        curve = None if run is None else self._curve(point, run)
        if not point.named:
            return Known(study_dir=self._folder.path, curve=curve)
        own = of_arch(evaluations, point.arch)
        shown = self._pictures(run, own, patience, step)
        return Known(
            study_dir=self._folder.path,
            curve=curve,
            modules=self._modules_of(point.arch) if counted else (),
            no_modules="" if counted else NOT_COUNTED,
            runs=[each for each in runs if each.arch == point.arch],
            trainings=[each for each in trainings if canonical(each[1].plan.arch) == point.arch],
            evaluations=own,
            pictures=shown if isinstance(shown, Html) else None,
            no_pictures="" if isinstance(shown, Html) else shown,
            weights=run if run is not None and is_regular_file(run / WEIGHTS_FILE) else None,
        )

    def _run(self, point: PagePoint) -> Path | None:
        try:
            return self._folder.run(str(point.record.stored_arch))
        except ArchError:
            return None

    def _curve(self, point: PagePoint, run: Path) -> LearningCurve | None:
        key = point.record.study, point.record.number
        if key not in self._curves:
            self._curves[key] = read_learning_curve(run)
        return self._curves[key]

    def _modules_of(self, arch: str) -> list[Module]:
        if arch not in self._modules:
            try:
                counted = modules_of(arch, self._num_classes, self._constants) if self._num_classes else []
            except SmnasError:
                counted = []
            self._modules[arch] = counted
        return self._modules[arch]

    def _pictures(
        self,
        run: Path | None,
        evaluations: Sequence[tuple[Path, StoredEvaluation]],
        patience: Patience,
        step: Callable[[], None],
    ) -> Html | str:
        data = self._data
        if isinstance(data, str):
            return data
        found = self._kept(data, run, evaluations) or self._new(data, run, patience, step)
        return found if isinstance(found, str) else pictures(data.images, found, data.dataset.category_names)

    def _kept(
        self, data: PageData, run: Path | None, evaluations: Sequence[tuple[Path, StoredEvaluation]]
    ) -> Detections | None:
        """Return what the search kept, which is alike for all detectors, or else an evaluation of better weights."""
        of_search = None if run is None else read_found(run, data.content, data.images)
        if of_search is not None:
            return of_search
        for folder, evaluation in evaluations:
            if evaluation.images.role == "val" and evaluation.images.content == data.content:
                return kept_detections(folder, data.dataset, data.images)
        return None

    def _new(self, data: PageData, run: Path | None, patience: Patience, step: Callable[[], None]) -> Detections | str:
        if run is None or not is_regular_file(run / WEIGHTS_FILE):
            return "There are no pictures: the weights of this detector are not kept."
        key = str(run), (run / WEIGHTS_FILE).stat().st_mtime_ns
        if key not in self._detections:
            if not self.detects or not patience.take():
                return NO_TIME
            with self._at_work():
                self._detections[key] = detect_in(run, data.images, data.dataset.category_names, step)
        found = self._detections[key]
        return f"There are no pictures: {found}." if isinstance(found, str) else found

    def _to_detect(self, points: Sequence[PagePoint], evaluations: Sequence[tuple[Path, StoredEvaluation]]) -> int:
        """Return the number of images to detect in, all detectors together."""
        if isinstance(self._data, str):
            return 0
        count = 0
        for point in points:
            run = self._run(point) if point.named else None
            has_weights = run is not None and is_regular_file(run / WEIGHTS_FILE)
            if has_weights and self._kept(self._data, run, of_arch(evaluations, point.arch)) is None:
                count += str(run) not in {name for name, _ in self._detections}
        return min(count, MOST_DETECTORS) * len(self._data.images)
