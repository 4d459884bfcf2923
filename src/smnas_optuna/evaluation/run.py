"""An evaluation: a detector detects in given images once, and everything else is computed from that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal

import torch

from smnas_optuna.data import DetectionLoader
from smnas_optuna.data.json_file import read_json
from smnas_optuna.engine.checkpoint import DETECTOR_FILE
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.evaluate import CocoMetrics, coco_evaluation, detect
from smnas_optuna.evaluation.curves import Counts, Curve, best_thresholds, curve_of, pooled
from smnas_optuna.evaluation.images import Images, read_images_of
from smnas_optuna.evaluation.kept import Rows, check_output, keeping, kept_or_new, unmade
from smnas_optuna.evaluation.matching import Match, Places, confusion, match_images
from smnas_optuna.evaluation.metrics import (
    ClassMetrics,
    Limits,
    SizeMetrics,
    class_metrics,
    limits_of,
    metrics_of,
    size_metrics,
)
from smnas_optuna.evaluation.request import TEST, VAL, EvaluationRequest
from smnas_optuna.evaluation.subject import Subject, read_subject
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.detections import USUAL_THRESHOLD
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

ThresholdSource = Literal["found here", "stored", "none"]
"""Thresholds that maximise F1 on these very images, those that were stored with the detector, or none are known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluated:
    """What a detector finds in images, in numbers.

    Attributes:
        subject: The detector.
        role: Name of the images: ``val``, ``test``, or that of their annotation file or folder.
        images: The images and their objects.
        output: Folder of the detections.
        kept: True if the detections were there already.
        limits: Number of detections of an image that count.
        metrics: COCO's 12 metrics, with a 95 % interval of AP.
        classes: Metrics of each class.
        sizes: Metrics by size of the objects.
        curves: Detections of each class over the score threshold.
        thresholds: Score threshold of each class.
        threshold_source: Origin of the thresholds.
        stored: True if the thresholds have just been stored with the detector.
        matches: Detections that reach the thresholds beside the objects, image by image.
    """

    subject: Subject
    role: str
    images: Images
    output: Path
    kept: bool
    limits: Limits
    metrics: CocoMetrics
    classes: Sequence[ClassMetrics]
    sizes: Sequence[SizeMetrics]
    curves: Sequence[Curve]
    thresholds: Sequence[float]
    threshold_source: ThresholdSource
    stored: bool
    matches: Sequence[Match]

    @property
    def confusion(self) -> Places:
        """Objects by class (rows) and what they are detected as; see :func:`confusion`."""
        return confusion(self.matches, len(self.classes))

    @property
    def counts(self) -> list[Counts]:
        """Right, false and missed of each class at its threshold."""
        return [curve.at(threshold) for curve, threshold in zip(self.curves, self.thresholds, strict=True)]

    @property
    def total(self) -> Counts:
        """The sum of ``counts``."""
        return reduce(add, self.counts)

    @property
    def all_classes(self) -> Curve:
        """The curve of all classes with one threshold."""
        return pooled(self.curves)


def evaluate(request: EvaluationRequest, *, listener: Listener, stop: StopRequest) -> Evaluated:
    """Evaluate the detector that ``request`` names, and store the thresholds of the validation images.

    If it was trained on these, the thresholds are those of the test images.

    Args:
        request: The request.
        listener: Receives reports.
        stop: Checked at every step.

    Raises:
        SmnasError: If detector, data or device cannot be used, or the results cannot be written.
        Interrupted: If asked to stop; it says whether the detections are kept.
    """
    folder = StudyFolder(request.study_dir)
    if request.output is None:
        check_output(request.output_in(folder.path), folder.path)
    else:
        check_output(request.output)
    subject = read_subject(request.detector)
    session = prepare(
        folder,
        listener=listener,
        stop=stop,
        data_dir=request.data_dir,
        device="cpu" if subject.is_file else request.device,
        times=False,
    )
    with session.testbed.measurement_lock.running(stop.check):
        images = read_images_of(request, session, subject)
        output = _make_output(request, folder)
        limits = limits_of(images.most_objects, subject.max_detections, fixed=subject.is_file)
        found, kept = kept_or_new(
            output, _key(subject, images, limits), lambda: _detect(session, subject, images, limits)
        )
        with keeping(output):
            return evaluate_detections(
                request, subject, images, output, limits, found, kept=kept, listener=listener, stop=stop
            )


def evaluate_detections(
    request: EvaluationRequest,
    subject: Subject,
    images: Images,
    output: Path,
    limits: Limits,
    found: Rows,
    *,
    kept: bool,
    listener: Listener,
    stop: StopRequest,
) -> Evaluated:
    """Return what the detections ``found`` say, and at last store the thresholds if these images decide.

    Raises:
        Interrupted: If asked to stop; no thresholds are stored.
    """
    stop.check()
    dataset, ids = images.dataset, images.category_ids
    evaluation = coco_evaluation(dataset.ground_truth(), found, max_detections=limits.metric)
    stop.check()
    metrics = metrics_of(evaluation)
    classes = class_metrics(evaluation, subject.classes, ids, check=stop.check)
    stop.check()
    sizes = size_metrics(dataset, found, subject.size, limits.metric)
    stop.check()
    curves = [curve_of(evaluation, category_id) for category_id in ids]
    thresholds, source = _thresholds(request, subject, curves)
    matches = match_images(dataset, found, ids, thresholds)
    stop.check()
    return Evaluated(
        subject=subject,
        role=request.role,
        images=images,
        output=output,
        kept=kept,
        limits=limits,
        metrics=metrics,
        classes=classes,
        sizes=sizes,
        curves=curves,
        thresholds=thresholds,
        threshold_source=source,
        stored=source == "found here" and not subject.is_file and _store(subject, thresholds, listener),
        matches=matches,
    )


def _thresholds(
    request: EvaluationRequest, subject: Subject, curves: Sequence[Curve]
) -> tuple[list[float], ThresholdSource]:
    """Return the thresholds: those of these images if they are to decide, otherwise those that are stored."""
    if request.on == (TEST if subject.saw_val else VAL):
        return best_thresholds(curves), "found here"
    if not subject.thresholds:
        return [USUAL_THRESHOLD] * len(curves), "none"
    return [subject.thresholds.get(name, USUAL_THRESHOLD) for name in subject.classes], "stored"


def _store(subject: Subject, thresholds: Sequence[float], listener: Listener) -> bool:
    """Store the thresholds in the description of the detector, and return whether that could be done."""
    path = subject.path / DETECTOR_FILE
    by_name: dict[str, float] = {}
    for name, threshold in zip(subject.classes, thresholds, strict=True):
        by_name[name] = max(threshold, by_name.get(name, 0.0))  # classes may share a name
    try:
        description = read_json(path)
        assert isinstance(description, dict)  # read_trained has checked it
        if description.get("thresholds") != by_name:
            write_json(path, {**description, "thresholds": by_name})
    except (OSError, ValueError) as error:
        listener.note(f"{path}: the thresholds cannot be stored: {quote_error(error)}")
        return False
    return True


def _detect(session: Session, subject: Subject, images: Images, limits: Limits) -> Rows:
    testbed, size = session.testbed, subject.size
    batches = DetectionLoader(
        images.dataset,
        long=size.long,
        short=size.short,
        batch_size=1 if subject.is_file else session.settings.train.batch_size,
        device=torch.device("cpu") if subject.is_file else testbed.device,
        seed=0,
        train=False,
        cache=testbed.caches.get(images.dataset, images.content_hash, size.long, size.short),
    )
    network = subject.network(limits.detector, testbed.device)
    return detect(network, batches, images.category_ids, on_step=session.step("evaluate"), note=session.listener.note)


def _key(subject: Subject, images: Images, limits: Limits) -> Mapping[str, Any]:
    """Return everything that detections depend on, as JSON values."""
    key = {
        "weights_sha256": subject.sha256,
        "data": images.identity,
        "max_detections": limits.detector,
        "constants": dict(subject.constants),
    }
    values: dict[str, Any] = json.loads(json.dumps(key))
    return values


def _make_output(request: EvaluationRequest, folder: StudyFolder) -> Path:
    """Return the folder of the results, made if it does not exist.

    Raises:
        StudyError: If it cannot be made.
    """
    path = request.output
    try:
        if path is None:
            return folder.make(request.output_in(folder.path))
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unmade(path or request.output_in(folder.path), error) from error
    return path
