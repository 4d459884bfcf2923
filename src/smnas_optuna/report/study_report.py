"""The report of a study as one HTML file: read from the study folder, and written into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.errors import SmnasError
from smnas_optuna.report.choice import spread_of
from smnas_optuna.report.files import write_page
from smnas_optuna.report.outside import read_outside
from smnas_optuna.report.study_page.gather import Gatherer, PageData, page_data
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.study_page.study_page import study_page
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock

FILE = "report.html"
WATCH_SECONDS = 5.0
"""Time between two looks at a study that is watched."""
PATIENCE_SECONDS = 12.0
"""Detection would disturb what a search measures, and waits for it; five times as long if need be."""


class StudyReport:
    """The report of a study, which can be written again and again while a search runs.

    Args:
        study_dir: A study whose search has begun.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
        output: File or folder of the page; by default ``report/report.html`` in the study folder.
        listener: Receives the progress of reading the data and of detection.
        stop: Checked at every step of them.
    """

    def __init__(
        self,
        study_dir: Path,
        data_dir: Path | None = None,
        *,
        output: Path | None = None,
        listener: Listener | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self._folder, self._data_dir = StudyFolder(study_dir), data_dir
        self._output = output
        self._listener, self._stop = listener or Listener(), stop or StopRequest()
        self._measurement_lock = MeasurementLock(patience_seconds=PATIENCE_SECONDS, note=self._listener.note)
        self._settings = _settings(study_dir)
        self._gatherer: Gatherer | None = None

    def write(self, *, watched: bool = False) -> Path:
        """Write the page, and return its path.

        Args:
            watched: True if the page is to reload itself.

        Raises:
            SmnasError: If the study cannot be read, the data folder that was named cannot be used, or the file cannot
                be written.
            Interrupted: If asked to stop before the page was made.
        """
        text = self._page(watched=watched)
        return write_page(self._folder.report, FILE, text, "report", self._output)

    def watch(self, say: Callable[[Path], None], *, seconds: float = WATCH_SECONDS) -> None:
        """Write the report now, and again whenever a trial has ended, until asked to stop.

        The page reloads itself meanwhile. At last it is written once more, as a page that does not.

        Args:
            say: Receives the path each time that it is written.
            seconds: Time between two looks at the study.

        Raises:
            SmnasError: As :meth:`write`.
        """
        shown: set[tuple[str, int]] | None = None
        with suppress(Interrupted):
            while True:
                ended = self._ended()
                if ended != shown:
                    say(self.write(watched=True))
                    shown = ended
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    self._stop.check()
                    time.sleep(min(seconds, 0.2))
        if shown is not None:
            self._stop = StopRequest()
            if self._gatherer is not None:
                self._gatherer.detects = False  # who has stopped it waits for no detector
            say(self.write())

    def _ended(self) -> set[tuple[str, int]]:
        """Return study and number of each trial that has ended."""
        running = ("running", "waiting")
        return {(each.study, each.number) for each in self._folder.records() if each.state not in running}

    def _page(self, *, watched: bool) -> str:
        folder = self._folder
        summary = summarize(*folder.of_stage(None), name=folder.path.resolve().name)
        summary = replace(summary, outside=read_outside(folder))
        points = page_points(summary, spread_of(self._folder))
        gatherer = self._gathering(summary)
        panelled = [point for point in points if point.has_panel]
        known = dict(zip((id(point) for point in panelled), gatherer.known_of(panelled), strict=True))
        panels = [(point, known[id(point)]) for point in panelled]
        return study_page(summary, points, panels, gatherer.stored_images, watched=watched)

    def _gathering(self, summary: Summary) -> Gatherer:
        if self._gatherer is None:
            data = self._data()
            classes = summary.data.get("classes")
            known = len(classes) if isinstance(classes, list | tuple) else None
            num_classes = known if isinstance(data, str) else data.dataset.num_classes
            step = self._step("predict")

            def at_work() -> AbstractContextManager[None]:
                return self._measurement_lock.running(self._stop.check)

            self._gatherer = Gatherer(self._folder, self._settings, num_classes, data, at_work=at_work, progress=step)
        return self._gatherer

    def _data(self) -> PageData | str:
        """Return the images of the page, or why there are none; a folder that was named must be usable."""
        if self._settings is None:
            return "There are no pictures: study.toml cannot be read."
        from smnas_optuna.session.prepare import load_data

        try:
            _, splits = load_data(self._folder, self._data_dir, self._settings, self._step("load"))
            return page_data(splits.val, splits.content_hash)
        except SmnasError as error:
            if self._data_dir is not None:
                raise
            return f"There are no pictures, as the data cannot be used: {error.message}"

    def _step(self, phase: str) -> Callable[[int, int], None]:
        def step(done: int, total: int) -> None:
            step_of(phase, self._listener, self._stop, self._measurement_lock)(done, total)

        return step


def _settings(study_dir: Path) -> StudySettings | None:
    try:
        return load_settings(study_dir)
    except SmnasError:
        return None
