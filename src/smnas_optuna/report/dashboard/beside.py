"""What optuna-dashboard shows beside a study's database: notes, pictures and the front. Nothing of it is stored."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from PIL.Image import DecompressionBombError
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from smnas_optuna.errors import ArchError, SmnasError
from smnas_optuna.real_files import is_regular_file
from smnas_optuna.report.choice import spread_of
from smnas_optuna.report.dashboard.front_plot import front_plot
from smnas_optuna.report.dashboard.notes import study_note, trial_note
from smnas_optuna.report.dashboard.pictures import curve_png, detections_jpeg, front_png, said_png
from smnas_optuna.report.outside import read_outside
from smnas_optuna.report.study_page.points import PagePoint, page_points
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.study.folder import LOG_FILE, SAMPLES_FILE, StudyFolder
from smnas_optuna.study.optuna_private import engine_of, study_id
from smnas_optuna.study.record import TrialRecord, stage_name

MOST_KEPT = 50
"""Pictures that are kept in memory; one takes about 100 KB."""
MOST_NOTES = 500
"""Notes of a study: optuna-dashboard looks through all of them for each trial that it sends."""
_STATE = (
    "SELECT study_id, state, COUNT(*) FROM trials GROUP BY study_id, state ORDER BY study_id, state",
    "SELECT COUNT(*), SUM(LENGTH(value_json)) FROM study_user_attributes",
)
"""What differs once a trial has begun or ended, or the latencies have another unit."""
Draw = Callable[[], bytes]


class Beside:
    """Attributes under which optuna-dashboard looks for notes, figures and pictures, and the pictures themselves.

    They are made from the study folder when they are asked for, and made again once a trial has ended. So a search
    stores nothing for them, and old studies have them, too. It is one of Optuna's artifact stores, which refuses to
    write.

    Args:
        study_dir: The study folder.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir, self._lock, self._drawing = study_dir, Lock(), Lock()
        self._state: object = None
        self._of_study: dict[int, dict[str, Any]] = {}
        self._of_trial: dict[int, dict[str, Any]] = {}
        self._draw: dict[str, Draw] = {}
        self._drawn: OrderedDict[str, bytes] = OrderedDict()

    def refresh(self, engine: Engine) -> None:
        """Read the study again if a trial has begun or ended. What cannot be read now is shown as it was."""
        with self._lock:
            try:
                with engine.connect() as connection:
                    state = [connection.execute(text(query)).all() for query in _STATE]
                if state != self._state:
                    self._read(engine)
                    self._state = state
            except (SmnasError, SQLAlchemyError, StorageInternalError, OSError):
                return  # whoever asks reads the database, too, and is told

    def of_study(self, study_id: int) -> Mapping[str, Any]:
        """Return the attributes of a study."""
        return self._of_study.get(study_id, {})

    def of_trial(self, trial_id: int) -> Mapping[str, Any]:
        """Return the attributes of a trial."""
        return self._of_trial.get(trial_id, {})

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return a picture.

        Raises:
            ArtifactNotFound: If there is none of that id.
        """
        with self._drawing:
            if artifact_id not in self._draw:
                raise ArtifactNotFound(artifact_id)
            if artifact_id not in self._drawn:
                try:
                    self._drawn[artifact_id] = self._draw[artifact_id]()
                except (SmnasError, OSError, ValueError, DecompressionBombError) as error:
                    said = error.message if isinstance(error, SmnasError) else error
                    return BytesIO(said_png(f"This picture cannot be drawn: {said}"))
            self._drawn.move_to_end(artifact_id)
            while len(self._drawn) > MOST_KEPT:
                self._drawn.popitem(last=False)
            return BytesIO(self._drawn[artifact_id])

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:  # noqa: ARG002 - as artifact stores have it
        """Refuse to write."""
        raise PermissionError(f"{artifact_id}: this dashboard is read-only")

    def remove(self, artifact_id: str) -> None:
        """Refuse to remove."""
        raise PermissionError(f"{artifact_id}: this dashboard is read-only")

    def _read(self, engine: Engine) -> None:
        folder = StudyFolder(self._study_dir)
        studies = folder.studies
        if not studies:
            return
        try:
            summary = summarize(*studies, name=self._study_dir.resolve().name)
            summary = replace(summary, outside=read_outside(folder))
        finally:
            engine_of(studies[0]).dispose()
        points = page_points(summary, spread_of(folder))
        of = {(point.record.study, point.record.number): point for point in points}
        last = {record.stored_arch: record for record in summary.records if record.trained}  # whose files are in runs/
        of_study, of_trial, draw = dict[int, dict[str, Any]](), dict[int, dict[str, Any]](), dict[str, Draw]()
        for study in studies:
            attrs = self._attrs_of(study, summary, points, draw)
            ids = _trial_ids(engine, study_id(study))
            own = [each for each in summary.records if each.study == stage_name(study) and each.number in ids]
            for record in own:
                number = ids[record.number]
                pictures = _pictures(folder, record) if last.get(record.stored_arch) is record else {}
                of_trial[number] = _artifacts(number, pictures, draw)
            for record in _noted(own, of):
                attrs |= _note(trial_note(record, of.get((record.study, record.number))), ids[record.number])
            of_study[study_id(study)] = attrs
        self._of_study, self._of_trial = of_study, of_trial
        with self._drawing:
            self._draw = draw
            self._drawn.clear()

    def _attrs_of(
        self, study: Study, summary: Summary, points: list[PagePoint], draw: dict[str, Draw]
    ) -> dict[str, Any]:
        number = study_id(study)
        attrs = _note(study_note(summary, points), None)
        if points:
            attrs["dashboard:plot_data:front:0"] = front_plot(summary, points)
            of_study: dict[str, Draw] = {"front.png": partial(front_png, summary)}
            attrs |= _artifacts(number, of_study, draw, kind="f")
        return attrs


def _noted(records: Sequence[TrialRecord], of: Mapping[tuple[str, int], PagePoint]) -> list[TrialRecord]:
    """Return the trials that have a note: with many, those on the front, the baselines, and the newest."""

    def is_named(record: TrialRecord) -> bool:
        point = of.get((record.study, record.number))
        return point is not None and point.named

    known = [record for record in records if record.arch is not None]
    return sorted(known, key=lambda record: (is_named(record), record.number), reverse=True)[:MOST_NOTES]


def _trial_ids(engine: Engine, study: int) -> dict[int, int]:
    """Return Optuna's id of each trial of a study by its number."""
    query = text("SELECT number, trial_id FROM trials WHERE study_id = :study")
    with engine.connect() as connection:
        rows = connection.execute(query, {"study": study}).all()
    return {row.number: row.trial_id for row in rows}


def _pictures(folder: StudyFolder, record: TrialRecord) -> dict[str, Draw]:
    """Return the pictures of a trained trial by their names."""
    if not record.trained:
        return {}
    try:
        run = folder.run(str(record.stored_arch))
    except ArchError:
        return {}
    pictures: dict[str, Draw] = {}
    if is_regular_file(run / LOG_FILE):
        pictures["learning_curve.png"] = partial(curve_png, run, record)
    if is_regular_file(run / SAMPLES_FILE):
        pictures["detections.jpg"] = partial(detections_jpeg, folder, run, record)
    return pictures


def _artifacts(number: int, pictures: Mapping[str, Draw], draw: dict[str, Draw], *, kind: str = "a") -> dict[str, Any]:
    """Return the attributes of pictures of study or trial ``number``, and enter them into ``draw``; ids are hex."""
    attrs = dict[str, Any]()
    for place, (name, each) in enumerate(pictures.items()):
        artifact_id = f"{kind}-{number:x}-{place:x}"
        kinds = {".png": "image/png", ".jpg": "image/jpeg"}
        meta = {"artifact_id": artifact_id, "filename": name, "mimetype": kinds[Path(name).suffix], "encoding": None}
        attrs[f"artifacts:{artifact_id}"] = json.dumps(meta)
        draw[artifact_id] = each
    return attrs


def _note(note: str, trial: int | None) -> dict[str, Any]:
    """Return a note as optuna-dashboard stores it: all of them with the study, that of the study without a trial."""
    from optuna_dashboard._note import note_str_key_prefix, note_ver_key

    return {note_ver_key(trial): 1, f"{note_str_key_prefix(trial)}0": note}
