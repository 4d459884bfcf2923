"""Facts -> the values of a study file, each with its reason. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from smnas_optuna.config import DetectorSettings
from smnas_optuna.new_study import detector as rules
from smnas_optuna.new_study.cost import Cost, Recipe
from smnas_optuna.new_study.facts import Asked, Chosen, DataFacts, DeviceFacts
from smnas_optuna.new_study.scale import (
    MODULAR_SHARE,
    STRUCTURAL_SHARE,
    Scale,
    aimed_trials,
    choose_baselines,
    choose_parents,
    choose_scale,
    choose_trials,
    rungs,
)
from smnas_optuna.new_study.sizes import choose_anchor_scale, input_edges

SCORE_THRESHOLD = 0.02
"""As in all measured studies: short trainings from scratch have low scores."""
MEASURING = {"cpu": (4.0, "as measured on a CPU"), "cuda": (3.0, "as measured on an H200")}
NOISE = 0.04
MAX_BLOCKS = {"cpu": 12, "cuda": 16}
SHORTEST, LONGEST = 0.75, 3.0
"""Factors of the steps if the smallest study takes too long, and if the largest leaves time over."""
POPULATIONS = (4, 10)
BF16_WIDTH = 32
"""Base width from which bf16 made trainings on a CPU faster, by 1.3 at 32 (benchmarks/README.md)."""
APART = 16
"""Base widths that are so far apart get one between them in stage 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A key of a table, its value, and the reason."""

    key: str
    value: Any
    because: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """Everything that a new study file says.

    Attributes:
        tables: Lines by table, in the order of the file.
        scale: Scale of the study.
        trials: Trainings of stage 1 and of stage 2.
    """

    tables: dict[str, list[Line]]
    scale: Scale
    trials: tuple[int, int]


def choose_constants(facts: DataFacts, device_kind: rules.Kind) -> list[Line]:
    """Return the lines of ``[detector]`` that follow from the objects of an image."""
    chosen: dict[str, Chosen[int]] = {
        "train_proposals": rules.choose_train_proposals(facts, device_kind),
        "test_proposals": rules.choose_test_proposals(facts, device_kind),
        "guided_proposals": rules.choose_guided_proposals(facts, device_kind),
        "rpn_samples": rules.choose_rpn_samples(facts, device_kind),
        "roi_samples": rules.choose_roi_samples(facts, device_kind),
        "guided_roi_samples": rules.choose_roi_samples(facts, device_kind),
        "max_detections": rules.choose_max_detections(facts),
    }
    lines = [line(key, value) for key, value in chosen.items()]
    return [*lines, Line(key="score_threshold", value=SCORE_THRESHOLD, because="short trainings have low scores")]


def detector_settings(lines: Iterable[Line]) -> DetectorSettings:
    """Return the ``[detector]`` table with these lines."""
    return DetectorSettings.model_validate({each.key: each.value for each in lines})


def choose_values(facts: DataFacts, device: DeviceFacts, asked: Asked) -> Values:
    """Return all values for the data, the device and what is asked for."""
    kind = device.kind
    batch_size, rate = rules.choose_batch_size(facts, kind), rules.choose_rate(kind)
    constants = choose_constants(facts, kind)
    max_seconds, measured = MEASURING[kind]

    @cache
    def anchor_scale(largest: int) -> float:
        return choose_anchor_scale(facts, input_edges(facts, largest)).value

    def scaled(longer: float) -> tuple[Chosen[int], Scale]:
        epochs = rules.choose_epochs(facts, asked, batch_size.value, longer)
        recipe = Recipe(
            epochs=epochs.value, max_seconds=max_seconds, constants=detector_settings(constants).constants()
        )
        cost = Cost(device, facts, recipe)
        return epochs, choose_scale(facts, device, asked, cost, anchor_scale)

    epochs, scale = scaled(1.0)
    spare = choose_trials(asked, STRUCTURAL_SHARE, scale.trial_s).value / aimed_trials(asked.hours)
    if not scale.cheap or (scale.rung == rungs(facts, kind)[-1] and spare > 1):
        epochs, scale = scaled(max(SHORTEST, min(LONGEST, spare)))
    anchors = choose_anchor_scale(facts, input_edges(facts, scale.rung.edge))
    structural = choose_trials(asked, STRUCTURAL_SHARE, scale.trial_s)
    modular = choose_trials(asked, MODULAR_SHARE, scale.trial_s)
    tables = {
        "data": data_lines(facts),
        "space.structural": structural_lines(scale),
        "space.modular": modular_lines(scale, kind),
        "search": search_lines(asked, scale, structural),
        "modular": [line("parents", choose_parents(modular.value)), line("trials", modular)],
        "detector": [line("anchor_scale", anchors), *constants],
        "train": [
            line("epochs", epochs),
            line("batch_size", batch_size),
            Line(key="optimizer", value="adamw", because="SGD was no better beyond the noise"),
            line("learning_rate", rate),
            *bf16_lines(device, scale),
        ],
        "latency": [
            Line(key="max_seconds", value=max_seconds, because=measured),
            Line(key="noise", value=NOISE, because="two measurements of one detector differ by as much"),
            Line(key="precision", value=NOISE, because="a narrower interval would be rounded away"),
        ],
    }
    return Values(tables=tables, scale=scale, trials=(structural.value, modular.value))


def bf16_lines(device: DeviceFacts, scale: Scale) -> list[Line]:
    """Return the line of ``[train]`` about bf16, if it makes trainings on this CPU faster."""
    if not device.bf16 or scale.rung.width < BF16_WIDTH:
        return []
    return [Line(key="bf16_on_cpu", value=True, because="this CPU multiplies in bf16; wide detectors train faster")]


def line(key: str, chosen: Chosen[Any]) -> Line:
    """Return the line of a chosen value."""
    return Line(key=key, value=chosen.value, because=chosen.because)


def data_lines(facts: DataFacts) -> list[Line]:
    """Return the lines of ``[data]``: the format, and the names that the format does not know by itself."""
    settings = facts.settings
    lines = [Line(key="format", value=settings.format, because=facts.why)]
    names_files = settings.model_fields_set - {"format", "drop_empty_boxes"}  # those of an export are found each time
    if settings.format == "coco" and names_files:
        lines.append(Line(key="train", value=settings.train, because=f"{facts.num_train:,} images for training"))
        named = (
            ("val", settings.val, f"{facts.num_val:,} images for validation"),
            ("test", settings.test, f"{facts.num_test:,} images; no search looks at them"),
            ("images", settings.images, "the folder that holds the images"),
            ("val_images", settings.val_images, ""),
            ("test_images", settings.test_images, ""),
        )
        lines += [Line(key=key, value=value, because=because) for key, value, because in named if value is not None]
    if facts.held_out:
        because = f"no validation images are named: {facts.num_val:,} are held out, by a hash of their content"
        lines.append(Line(key="val_fraction", value=settings.val_fraction, because=because))
    if settings.drop_empty_boxes:
        lines.append(Line(key="drop_empty_boxes", value=True, because="asked for: unusable boxes are left out"))
    return lines


def structural_lines(scale: Scale) -> list[Line]:
    """Return the lines of ``[space.structural]``."""
    space, reasons = scale.space, scale.reasons
    keys = ["input_sizes", "backbones", "backbone_widths", "necks", "neck_min_levels", "neck_max_levels"]
    lines = [Line(key=key, value=getattr(space, key), because=reasons[key]) for key in keys]
    lines.append(Line(key="neck_channels", value=space.neck_channels, because=reasons["neck_channels"]))
    if max(space.neck_max_levels) > 5:
        lines.append(Line(key="neck_extras", value=space.neck_extras, because="how p6 is made"))
    lines.append(Line(key="rpns", value=space.rpns, because="Guided Anchoring, too"))
    return [
        *lines,
        *(Line(key=key, value=getattr(space, key), because=reasons[key]) for key in ("heads", "head_widths")),
    ]


def modular_lines(scale: Scale, kind: rules.Kind) -> list[Line]:
    """Return the lines of ``[space.modular]``: the widths of stage 1, and ResNet's stem.

    The paper's stem has half of the base channels in its first convolution, and learnt far less at small widths: AP 7.8
    (x100) against 26.3 (docs/search.md), and each space has narrow backbones. So it is left out.
    """
    space = scale.space
    widths = space.backbone_widths
    between = sorted({*widths, *((low + high) // 2 for low, high in pairwise(widths) if high - low >= APART)})
    lines = [Line(key="base_channels", value=tuple(between), because="as in stage 1, in steps of 16 at most")]
    lines.append(Line(key="stems", value=("conv7",), because="at small widths the paper's conv3 learns far less"))
    lines.append(Line(key="max_blocks", value=MAX_BLOCKS[kind], because="a parent's depth is in the space beside it"))
    lines.append(Line(key="neck_channels", value=space.neck_channels, because="as in stage 1"))
    return [*lines, Line(key="head_widths", value=space.head_widths, because="as in stage 1")]


def search_lines(asked: Asked, scale: Scale, trials: Chosen[int]) -> list[Line]:
    """Return the lines of ``[search]``."""
    baselines = choose_baselines(scale.space)
    population = max(POPULATIONS[0], min(POPULATIONS[1], trials.value // 3))
    lines = [
        Line(key="hours", value=asked.hours, because="what `smnas search` keeps to; asked for"),
        Line(key="trials", value=trials.value, because=f"for `smnas structural`; {trials.because}"),
        Line(key="population", value=population, because="a third of the trainings, 4 to 10"),
    ]
    if asked.max_latency_ms is not None:
        lines.append(
            Line(key="max_latency_ms", value=asked.max_latency_ms, because="asked for; slower ones are skipped")
        )
    return [*lines, line("baselines", baselines)]
