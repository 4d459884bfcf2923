"""A trained detector on the disk: the weights of a run and the description that they are built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from smnas_optuna.arch import DetectorConstants, canonical, decode
from smnas_optuna.config import Arch, DetectorSettings
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.reading import FULL_BITS
from smnas_optuna.engine.checkpoint import DETECTOR_FILE, WEIGHTS_FILE, load_weights
from smnas_optuna.errors import CheckpointError
from smnas_optuna.models import Detector, build_detector
from smnas_optuna.quote import printable_name, quote, quote_error


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A detector with its trained weights.

    Attributes:
        module: The network on the CPU, in evaluation mode.
        arch: Its architecture, as a canonical string.
        classes: Names of the classes; label 1 is the first.
        constants: Constants that it was built with.
        grey_bits: Bits of the values of images with more than 8 bits a channel.
        thresholds: Score by name of a class, from which on its detections count; empty if they are not known.
        description: What ``detector.json`` says: classes, constants, latency, device, versions, metrics.
    """

    module: Detector
    arch: str
    classes: list[str]
    constants: DetectorConstants
    grey_bits: int
    thresholds: dict[str, float]
    description: dict[str, Any]


class _Built(BaseModel):
    """The part of a description that a detector is built from; the rest is for people."""

    model_config = ConfigDict(strict=True)

    arch: Arch
    classes: Annotated[list[str], Field(min_length=1)]
    constants: DetectorSettings
    grey_bits: Annotated[int, Field(ge=8, le=FULL_BITS)] = FULL_BITS
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    category_ids: list[int] = []

    @field_validator("thresholds")
    @classmethod
    def _of_classes(cls, thresholds: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        others = thresholds.keys() - {*info.data.get("classes", thresholds)}
        if others:
            raise ValueError(f"{quote(min(others))} is none of its classes")
        return thresholds

    @field_validator("category_ids")
    @classmethod
    def _one_per_class(cls, category_ids: list[int], info: ValidationInfo) -> list[int]:
        classes = info.data.get("classes", category_ids)
        if not len(category_ids) == len({*category_ids}) == len(classes):
            raise ValueError(f"should be distinct ids, one for each of {len(classes)} classes")
        return category_ids


def read_trained(folder: Path) -> Trained:
    """Return the trained detector in ``folder``, that of a run or of a verification.

    Raises:
        CheckpointError: If there is no such folder, it holds no weights (those of dominated trials are removed), or a
            file in it is damaged.
    """
    _check_files(folder)
    description, built = _read_description(folder / DETECTOR_FILE)
    constants = built.constants.constants()
    with torch.random.fork_rng(devices=[]):  # the first weights are random, and replaced
        module = build_detector(decode(built.arch), len(built.classes), constants)
    load_weights(folder, module)
    return Trained(
        module=module.eval(),
        arch=canonical(built.arch),
        classes=[printable_name(name) for name in built.classes],
        constants=constants,
        grey_bits=built.grey_bits,
        thresholds={printable_name(name): score for name, score in built.thresholds.items()},
        description=description,
    )


def _check_files(folder: Path) -> None:
    """Do nothing if ``folder`` is there, with both files."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: there is no such folder", fix="name the folder of a run, such as studies/shapes/runs/ARCH"
        )
    if not (folder / WEIGHTS_FILE).exists():
        raise CheckpointError(
            f"{folder}: there is no {WEIGHTS_FILE}; only members of the front keep their weights, those of dominated "
            "trials are removed",
            fix="name the run of a member, as open_study(STUDY_DIR).front() gives it; with keep_weights = 'all' under "
            "[search] in study.toml, later searches keep all weights",
        )
    if not (folder / DETECTOR_FILE).exists():
        raise CheckpointError(
            f"{folder / DETECTOR_FILE}: there is no such file; it says what the weights belong to",
            fix="copy it there from where the weights are from",
        )


def _read_description(path: Path) -> tuple[dict[str, Any], _Built]:
    """The description as it is, and the part of it that is built from, checked."""
    fix = "copy the file from where the weights are from, or train the architecture again"
    try:
        description = read_json(path)
    except (OSError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{path}: cannot be read: {quote_error(error)}", fix=fix) from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: is no JSON object, but {quote(description)}", fix=fix)
    try:
        return description, _Built.model_validate(description)
    except ValidationError as error:
        problem = error.errors()[0]
        where, cause = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        got = "" if isinstance(problem["input"], dict) else f", but got {quote(problem['input'])}"
        raise CheckpointError(f"{path}: {where}: {cause}{got}", fix=fix) from error
