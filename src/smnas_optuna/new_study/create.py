"""A data folder and a device -> a new study folder with its ``study.toml``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from smnas_optuna.arch import BackboneSpec, DetectorSpec
from smnas_optuna.config import STUDY_FILE, DeviceChoice, StructuralSpace, TrainSettings, load_settings
from smnas_optuna.engine.cpu_watch import CpuRecord, CpuWatch
from smnas_optuna.engine.device import choose_device
from smnas_optuna.engine.durable import write_durably
from smnas_optuna.errors import StudyError
from smnas_optuna.new_study import detector as rules
from smnas_optuna.new_study.data import look_at_data
from smnas_optuna.new_study.facts import Asked, DataFacts, DeviceFacts
from smnas_optuna.new_study.probe import probe_device
from smnas_optuna.new_study.scale import Rung, baselines_of, space_at, width_at
from smnas_optuna.new_study.sizes import choose_anchor_scale, input_edges, least_edge, native_edge, size_of
from smnas_optuna.new_study.text import study_text
from smnas_optuna.new_study.values import Values, choose_constants, choose_values, detector_settings
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.placement import Placement

MUCH_LOAD_PERCENT = 25
"""Share of the CPUs that others take while detectors are timed, from which on it is told."""
LARGEST_PROBE = {"cpu": (320, 32), "cuda": (1344, 64)}
"""Largest long edge and base width of what is timed: a CPU would take minutes for more."""
BOXES_TIMED = 100
"""Boxes of a timed image, at most."""


LookAtDevice = Callable[[torch.device, DataFacts, Placement, Listener, StopRequest], DeviceFacts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Created:
    """A new study.

    Attributes:
        path: The study file.
        facts: Of the data.
        device: Of the device.
        values: What the file says.
        notes: What a user should know of the data.
    """

    path: Path
    facts: DataFacts
    device: DeviceFacts
    values: Values
    notes: list[str]


def refuse_existing(study_dir: Path) -> None:
    """Check that a study can be made in ``study_dir``, which may exist.

    Raises:
        StudyError: If it has a study file, or cannot be a folder.
    """
    path = study_dir / STUDY_FILE
    if path.exists() or path.is_symlink():
        raise StudyError(
            f"{path}: there is a study already, and it is not overwritten",
            fix="name another folder, or remove that file and everything that was searched with it",
        )
    if study_dir.exists() and not study_dir.is_dir():
        raise StudyError(f"{study_dir}: is a file, not a folder", fix="name another folder")
    if not study_dir.parent.is_dir():
        raise StudyError(f"{study_dir.parent}: there is no such folder", fix="make it first, or name another folder")


def create_study(
    study_dir: Path,
    data_dir: Path,
    asked: Asked,
    *,
    device: DeviceChoice,
    placement: Placement,
    drop_empty_boxes: bool,
    listener: Listener,
    stop: StopRequest,
    look: LookAtDevice | None = None,
) -> Created:
    """Look at the data and the device, and write ``study_dir/study.toml``; nothing is written before all is known.

    What is checked goes to the study's cache, so that the first search reads and decodes nothing again for its checks.

    Args:
        study_dir: Folder of the study, which is made if it is not there.
        data_dir: The data folder.
        asked: Hours and limit.
        device: The device to train and measure on.
        placement: Workers that a search starts here.
        drop_empty_boxes: Leave out unusable boxes instead of refusing the data.
        listener: Receives reports.
        stop: Checked at every step.
        look: Returns the facts of the device; :func:`look_at_device` by default.

    Raises:
        SmnasError: If there is a study, or the data or the device cannot be used.
        Interrupted: If asked to stop.
    """
    refuse_existing(study_dir)
    chosen = choose_device(device)
    with TemporaryDirectory() as scratch:
        checked = Path(scratch) / "cache"
        facts, notes = look_at_data(
            data_dir,
            drop_empty_boxes=drop_empty_boxes,
            cache=checked,
            on_progress=step_of("load", listener, stop),
        )
        on_device = (look or look_at_device)(chosen, facts, placement, listener, stop)
        values = choose_values(facts, on_device, asked)
        name = study_dir.resolve().name
        content = study_text(name, values, facts, on_device, asked).encode()
        folder = StudyFolder(study_dir)
        write_durably(Path(scratch) / STUDY_FILE, content)
        load_settings(Path(scratch))  # a mistake of ours is found before anything is written
        shutil.copytree(checked, folder.cache, dirs_exist_ok=True)
        refuse_existing(study_dir)
        write_durably(study_dir / STUDY_FILE, content)
    return Created(path=study_dir / STUDY_FILE, facts=facts, device=on_device, values=values, notes=notes)


def look_at_device(
    device: torch.device, facts: DataFacts, placement: Placement, listener: Listener, stop: StopRequest
) -> DeviceFacts:
    """Return the facts of ``device``: a few detectors of the scale of the data are timed on it.

    A note tells if other programs were at work meanwhile, as the study then becomes smaller than the device allows.
    """
    kind: rules.Kind = "cuda" if device.type == "cuda" else "cpu"
    recipe = TrainSettings(batch_size=rules.choose_batch_size(facts, kind).value, epochs=1)
    watched = CpuWatch().begin()
    probed = probe_device(
        device,
        probed_specs(facts, kind),
        workers=placement.workers,
        threads=placement.threads if kind == "cpu" else None,
        recipe=recipe,
        constants=detector_settings(choose_constants(facts, kind)).constants(),
        num_classes=facts.num_classes,
        num_boxes=min(BOXES_TIMED, int(facts.objects.max())),
        on_step=step_of("probe", listener, stop),
    )
    note_load(watched(), listener)
    return probed


def note_load(record: CpuRecord | None, listener: Listener) -> None:
    """Tell if other programs took much of the CPUs while detectors were timed; ``record`` is None if nobody knows."""
    if record is not None and record.foreign_load_percent >= MUCH_LOAD_PERCENT:
        listener.note(
            f"the CPUs computed for others {record.foreign_load_percent} % of the time: all times are too long, and "
            "the study may be too small; remove study.toml and give the command again when nothing else runs"
        )


def probed_specs(facts: DataFacts, kind: rules.Kind) -> list[DetectorSpec]:
    """Return a small, a middle and a large detector to be timed: of the smallest study, and of the largest in reach.

    On a CPU none is larger than ``LARGEST_PROBE``, also where objects are so small that no study is.
    The middle one is deep and narrow. It takes more time than a wide one of as many multiply-adds, so that times are
    over- rather than underestimated.
    """
    edge, width = LARGEST_PROBE[kind]
    least = min(edge, least_edge(facts))
    small = _space(facts, Rung(edge=least, width=width_at(size_of(facts, least), kind)))
    large = _space(facts, Rung(edge=min(edge, native_edge(facts)), width=width))
    cheapest, _, middle = baselines_of(small)
    return [cheapest, *(_deep(spec) for spec in (middle, baselines_of(large)[-1]))]


def _deep(spec: DetectorSpec) -> DetectorSpec:
    return replace(spec, backbone=BackboneSpec(family="resnet50", width=spec.backbone.width))


def _space(facts: DataFacts, rung: Rung) -> StructuralSpace:
    scale = choose_anchor_scale(facts, input_edges(facts, rung.edge)).value
    return space_at(facts, rung, scale)[0]
