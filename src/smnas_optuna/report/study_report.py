"""The report of a study as one HTML file: read from the study folder, and written into it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.errors import SmnasError
from smnas_optuna.quote import quote_error
from smnas_optuna.report.choice import measured_spread
from smnas_optuna.report.files import write_text
from smnas_optuna.report.study_page.gather import Gatherer, PageData, page_data
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.study_page.study_page import study_page
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.folder import StudyFolder

FILE = "report.html"


class StudyReport:
    """The report of a study, which can be written again and again while a search runs.

    Args:
        study_dir: A study whose search has begun.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
        listener: Receives the progress of reading the data and of detection.
    """

    def __init__(self, study_dir: Path, data_dir: Path | None = None, listener: Listener | None = None) -> None:
        self._folder, self._data_dir = StudyFolder(study_dir), data_dir
        self._listener = listener or Listener()
        self._settings = _settings(study_dir)
        self._gatherer: Gatherer | None = None

    def write(self, *, watched: bool = False) -> Path:
        """Write ``report/report.html`` into the study folder, and return its path.

        Args:
            watched: True if the page is to reload itself.

        Raises:
            SmnasError: If the study cannot be read, the data folder that was named cannot be used, or the file cannot
                be written.
        """
        folder = self._folder
        summary = summarize(*folder.of_stage(None), name=folder.path.resolve().name)
        points = page_points(summary, self._spread())
        gatherer = self._gathering(summary)
        panelled = [point for point in points if point.has_panel]
        known = dict(zip((id(point) for point in panelled), gatherer.known_of(panelled), strict=True))
        panels = [(point, known[id(point)]) for point in panelled]
        text = study_page(summary, points, panels, gatherer.stored_images, watched=watched)
        return write_text(folder.report, FILE, text, "report")

    def _gathering(self, summary: Summary) -> Gatherer:
        if self._gatherer is None:
            data = self._data()
            classes = summary.data.get("classes")
            known = len(classes) if isinstance(classes, list | tuple) else None
            num_classes = known if isinstance(data, str) else data.dataset.num_classes
            step = partial(self._listener.step, "predict")
            self._gatherer = Gatherer(self._folder, self._settings, num_classes, data, step)
        return self._gatherer

    def _data(self) -> PageData | str:
        """Return the images of the page, or why there are none; a folder that was named must be usable."""
        if self._settings is None:
            return "There are no pictures: study.toml cannot be read."
        from smnas_optuna.session.prepare import load_data

        try:
            step = partial(self._listener.step, "load")
            _, splits = load_data(self._folder, self._data_dir, self._settings, step)
            return page_data(splits.val, splits.content_hash)
        except SmnasError as error:
            if self._data_dir is not None:
                raise
            return f"There are no pictures, as the data cannot be used: {quote_error(error)}"

    def _spread(self) -> float | None:
        """Return the standard deviation of AP over seeds: as verified, or as the settings assume it."""
        measured = measured_spread(self._folder)
        if measured is not None or self._settings is None:
            return measured
        return self._settings.search.ap_spread


def _settings(study_dir: Path) -> StudySettings | None:
    try:
        return load_settings(study_dir)
    except SmnasError:
        return None
