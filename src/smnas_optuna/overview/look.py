"""All that the page on a data set says, found in the annotations alone: no image is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.config import DataSettings, StudySettings
from smnas_optuna.data import CocoDataset, Splits
from smnas_optuna.data.formats.recognise import TITLES, recognise
from smnas_optuna.overview.objects import Objects, objects_of, splits_of, together
from smnas_optuna.overview.sample import Chosen, choose
from smnas_optuna.overview.sizes import Anchor, SizesAt, anchors_of, sizes_at
from smnas_optuna.overview.suspicious import Finding, findings, rare_classes
from smnas_optuna.quote import quote_path
from smnas_optuna.session.advice import advice_on


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Overview:
    """What the data of a study are like.

    Attributes:
        study: Name of the study.
        root: The data folder.
        read_as: Format of the annotations, and what tells it.
        datasets: The splits by name.
        objects: Their objects.
        all_objects: Those of all splits.
        settings: Settings of the study.
        anchors: The RPN's anchors of the largest pyramid in the space.
        sizes: Objects of all splits at each input size of the space.
        advice: What limits the AP of a study on these data.
        findings: What is suspicious.
        rare: Labels of classes with few training objects, the rarest first.
        chosen: Images to look at.
    """

    study: str
    root: Path
    read_as: str
    datasets: Mapping[str, CocoDataset]
    objects: Mapping[str, Objects]
    all_objects: Objects
    settings: StudySettings
    anchors: Sequence[Anchor]
    sizes: Sequence[SizesAt]
    advice: Sequence[str]
    findings: Sequence[Finding]
    rare: Sequence[int]
    chosen: Sequence[Chosen]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; any text."""
        return self.datasets["training"].category_names

    @property
    def notes(self) -> list[str]:
        """What ``smnas data check`` notes, but for the format."""
        of_splits = [(name, note) for name, dataset in self.datasets.items() for note in dataset.notes]
        said = f"read as {self.read_as}"
        return [*(f"{name}: {note}" for name, note in of_splits if note != said), *self.advice]


def look(study: str, root: Path, splits: Splits, settings: StudySettings) -> Overview:
    """Return what the data of ``study`` in the folder ``root`` are like."""
    datasets = splits_of(splits)
    objects = {name: objects_of(dataset) for name, dataset in datasets.items()}
    all_objects = together(objects)
    space = settings.space.structural
    anchors = anchors_of(space, settings.detector.constants())
    return Overview(
        study=study,
        root=root,
        read_as=read_as(root, settings.data),
        datasets=datasets,
        objects=objects,
        all_objects=all_objects,
        settings=settings,
        anchors=anchors,
        sizes=[sizes_at(all_objects, size, parse_input_size(size), anchors) for size in space.input_sizes],
        advice=advice_on(splits, settings.detector.max_detections),
        findings=findings(objects),
        rare=rare_classes(objects["training"]),
        chosen=choose(objects),
    )


def read_as(root: Path, settings: DataSettings) -> str:
    """Return the format of the annotations in ``root``, and what tells it, as a part of a sentence."""
    recognised = recognise(root, settings)
    why = recognised.why
    if not why and settings.format == "auto":
        why = f"{quote_path(Path(settings.train))} is there"
    return f"{TITLES[recognised.format]}, as {why or 'format in [data] of study.toml says'}"
