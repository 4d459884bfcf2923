"""Settings of a study, read from its ``study.toml``. They are frozen, and unknown keys are errors."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from smnas_optuna.arch import BackboneSpec, DetectorConstants, FcHeadSpec, NeckSpec, decode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, BACKBONE_TOP, MAX_BLOCKS, MIN_BLOCKS
from smnas_optuna.errors import ArchError, ConfigError

STUDY_FILE = "study.toml"

_DETECTOR = DetectorConstants()

DeviceChoice = Literal["auto", "cpu", "cuda"]
"""Requested device; ``auto`` is CUDA where it is available, and otherwise the CPU."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Blocks = Annotated[int, Field(ge=MIN_BLOCKS, le=MAX_BLOCKS)]


def _neck(max_level: int, extra: str | None) -> NeckSpec:
    return NeckSpec(min_level=2, max_level=max_level, channels=64, extra=extra)


def _checked(build: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that accepts the values that ``build`` accepts; the ranges are defined by the specs."""

    def check(value: Any) -> Any:
        try:
            build(value)
        except ArchError as error:
            raise ValueError(f"{error.message}; {error.fix}") from None
        return value

    return AfterValidator(check)


Arch = Annotated[str, _checked(decode)]
Size = Annotated[str, _checked(parse_input_size)]
Family = Annotated[str, _checked(lambda family: BackboneSpec(family=family, width=64))]
MinLevel = Annotated[int, _checked(lambda level: NeckSpec(min_level=level, max_level=5, channels=64))]
MaxLevel = Annotated[int, _checked(lambda level: _neck(level, "pool" if level > BACKBONE_TOP else None))]
Extra = Annotated[str, _checked(lambda extra: _neck(BACKBONE_TOP + 1, extra))]
Width = Annotated[int, _checked(lambda width: FcHeadSpec(width=width))]
Head = Literal["retina", "fc", "cascade2", "cascade3", "cascade4"]

Choice = TypeVar("Choice")
Choices = Annotated[tuple[Choice, ...], Field(min_length=1, strict=False)]  # a TOML array is a list


class Settings(BaseModel):
    """Base of every table of a study file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ShapesSettings(Settings):
    """``[data.shapes]``: draw the embedded data set into the data folder if it does not exist yet."""

    train_images: PositiveInt
    val_images: PositiveInt
    width: Annotated[int, Field(ge=64)] = 256
    height: Annotated[int, Field(ge=64)] = 192
    seed: Annotated[int, Field(ge=0)] = 0


class DataSettings(Settings):
    """``[data]``: location of the data; all paths are relative to the data folder.

    Attributes:
        train: Annotation file of the training images, COCO format.
        val: Annotation file of the validation images. Without one, ``val_fraction`` of the training images are held
            out.
        test: Annotation file of the test images. No search uses them; only ``smnas verify`` does.
        images: Image folder of all annotation files.
        val_images: Folder of the validation images, if it differs.
        test_images: Folder of the test images, if it differs.
        val_fraction: Share of the images that is held out for validation, chosen by a hash of their content.
        drop_empty_boxes: Drop boxes that have no area, lie outside the image or are not a number, instead of rejecting
            the file.
        shapes: Draw the embedded data set.
    """

    train: str = "instances_train.json"
    val: str | None = None
    test: str | None = None
    images: str = "images"
    val_images: str | None = None
    test_images: str | None = None
    val_fraction: Fraction = 0.2
    drop_empty_boxes: bool = False
    shapes: ShapesSettings | None = None


def _without_repeats(choices: tuple[object, ...]) -> tuple[object, ...]:
    twice = [choice for choice in choices if choices.count(choice) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is listed twice")
    return choices


class StructuralSpace(Settings):
    """``[space.structural]``: choices of the structural search, ordered by cost. The defaults are the paper's space.

    Attributes:
        input_sizes: Input sizes ``<long>x<short>``, in pixels.
        backbones: Families of classic networks.
        backbone_widths: Base widths; 64 is the classic width.
        necks: ``c4`` (no pyramid; the last backbone stage is applied to each RoI) and ``fpn``.
        neck_min_levels: Lowest levels of the pyramid; level ``l`` has stride ``2**l``.
        neck_max_levels: Highest levels of the pyramid.
        neck_channels: Channels of every pyramid level.
        neck_extras: Sources of the levels above p5: ``pool``, ``conv_c5`` or ``conv_p5``; see
            :class:`smnas_optuna.arch.NeckSpec`.
        rpns: ``rpn``, or ``ga`` for Guided Anchoring. The one-stage head ``retina`` has no RPN.
        heads: ``retina`` (one-stage; always has a pyramid), and the RoI heads ``fc`` and ``cascade2`` .. ``cascade4``.
        head_widths: Widths of the fully connected layers in RoI heads behind a pyramid.
    """

    input_sizes: Choices[Size] = ("512x512", "800x600", "1080x720", "1333x800")
    backbones: Choices[Family] = BACKBONE_FAMILIES
    backbone_widths: Choices[Width] = (64,)
    necks: Choices[Literal["c4", "fpn"]] = ("c4", "fpn")
    neck_min_levels: Choices[MinLevel] = (2, 3)
    neck_max_levels: Choices[MaxLevel] = (5, 6)
    neck_channels: Choices[Width] = (128, 256)
    neck_extras: Choices[Extra] = ("pool", "conv_c5")
    rpns: Choices[Literal["rpn", "ga"]] = ("rpn", "ga")
    heads: Choices[Head] = get_args(Head)
    head_widths: Choices[Width] = (1024,)

    @field_validator("*")
    @classmethod
    def _no_choice_twice(cls, choices: tuple[object, ...]) -> tuple[object, ...]:
        return _without_repeats(choices)

    @model_validator(mode="after")
    def _retina_has_a_pyramid(self) -> Self:
        if "retina" in self.heads and "fpn" not in self.necks:
            raise ValueError("`retina` among the heads needs a pyramid, but `fpn` is not among the necks")
        return self


class ModularSpace(Settings):
    """``[space.modular]``: choices of the modular search, ordered by cost. The defaults are the paper's space.

    The depth and the widths of a parent are always among the choices.

    Attributes:
        base_channels: Channels of the backbone's stem and first blocks; later blocks double them up to three times.
        stems: ``conv3`` (the paper's) and ``conv7`` (ResNet's); see :class:`smnas_optuna.arch.EncodedBackboneSpec`.
        min_blocks: Minimum number of backbone blocks.
        max_blocks: Maximum number of backbone blocks.
        neck_channels: Channels of every pyramid level.
        head_widths: Widths of the fully connected layers in RoI heads behind a pyramid.
        vary_input_size: Also search the next smaller and the next larger input size of ``[space.structural]``.
    """

    base_channels: Choices[Width] = (48, 56, 64, 72)
    stems: Choices[Literal["conv3", "conv7"]] = ("conv3",)
    min_blocks: Blocks = MIN_BLOCKS
    max_blocks: Blocks = MAX_BLOCKS
    neck_channels: Choices[Width] = (128, 256, 512)
    head_widths: Choices[Width] = (1024,)
    vary_input_size: bool = False

    @field_validator("base_channels", "stems", "neck_channels", "head_widths")
    @classmethod
    def _no_choice_twice(cls, choices: tuple[object, ...]) -> tuple[object, ...]:
        return _without_repeats(choices)

    @model_validator(mode="after")
    def _some_depth(self) -> Self:
        if self.min_blocks > self.max_blocks:
            raise ValueError(
                f"`min_blocks <= max_blocks` must hold, but got (min_blocks={self.min_blocks}, "
                f"max_blocks={self.max_blocks})"
            )
        return self


class SpaceSettings(Settings):
    """``[space]``: search spaces, one table per search."""

    structural: StructuralSpace = StructuralSpace()
    modular: ModularSpace = ModularSpace()


class SearchSettings(Settings):
    """``[search]``: budget and strategy of a search.

    Attributes:
        trials: Budget: number of unique architectures to train, including the baselines and earlier runs.
        population: Individuals per NSGA-II generation.
        seed: Seed of sampling, initial weights and augmentation.
        baselines: Architectures of the space that are trained first, cheapest first.
        max_seconds_per_trial: Limit for the training of one architecture. An architecture is pruned if its first steps
            predict a longer training. Results do not depend on the limit. If you change it, the study resumes and
            pruned architectures are reconsidered.
        max_latency_ms: Limit for the latency of one image. An architecture is pruned if its latency before training
            predicts a slower detector; a trained detector over the limit is on no front. If you change it, the study
            resumes and architectures are reconsidered.
        max_params: Limit for the parameters of a detector; a larger one is pruned. If you change it, the study resumes
            and architectures are reconsidered.
        ap_spread: Standard deviation of AP over seeds, in [0, 1]. Partial-order pruning calls one AP higher than
            another only if it is higher by at least this. ``benchmarks/README.md`` has measured values.
        rungs: Epochs, ascending, after which the AP of a training is checked. The training is stopped early if a
            trained detector of the same latency or less was far ahead at that epoch. The default is a quarter of
            ``[train] epochs``; with ``[]`` every training runs to the end. A second rung at half of the epochs cost
            more evaluations than it saved epochs (``benchmarks/README.md``).
        rung_margin: Share of that detector's AP, in [0, 1], by which a training must lag behind to be stopped; it must
            also lag by at least ``ap_spread``. With 1 no training is stopped. The default is the smallest measured
            margin whose loss of hypervolume is below 0.5 % by two standard errors. ``benchmarks/early_stop.py``
            measures savings and costs.
        keep_weights: Detectors whose weights stay on the disk: ``front`` or ``all``.
    """

    trials: PositiveInt = 60
    population: Annotated[int, Field(ge=2)] = 10
    seed: Annotated[int, Field(ge=0)] = 0
    baselines: Annotated[tuple[Arch, ...], Field(strict=False)] = ()
    max_seconds_per_trial: Positive | None = None
    max_latency_ms: Positive | None = None
    max_params: PositiveInt | None = None
    ap_spread: Annotated[float, Field(ge=0, le=1)] = 0.02
    rungs: Annotated[tuple[PositiveInt, ...], Field(strict=False)] | None = None
    rung_margin: Annotated[float, Field(ge=0, le=1)] = 0.9
    keep_weights: Literal["front", "all"] = "front"

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if rungs is not None and list(rungs) != sorted(set(rungs)):
            raise ValueError("epochs must ascend, each above the one before")
        return rungs


class ModularSettings(Settings):
    """``[modular]``: budget of the modular search; all other settings are those of ``[search]``.

    Attributes:
        parents: Number of members of the structural front whose modules are searched.
        trials: Budget: number of unique architectures to train, over all parents and earlier runs.
    """

    parents: PositiveInt = 3
    trials: PositiveInt = 60


class DetectorSettings(Settings):
    """``[detector]``: constants that all candidates share; see :class:`smnas_optuna.arch.DetectorConstants`."""

    anchor_scale: Annotated[float, Field(ge=1)] = _DETECTOR.anchor_scale
    train_proposals: PositiveInt = _DETECTOR.train_proposals
    test_proposals: PositiveInt = _DETECTOR.test_proposals
    guided_proposals: PositiveInt = _DETECTOR.guided_proposals
    rpn_samples: PositiveInt = _DETECTOR.rpn_samples
    roi_samples: PositiveInt = _DETECTOR.roi_samples
    guided_roi_samples: PositiveInt = _DETECTOR.guided_roi_samples
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = _DETECTOR.score_threshold
    nms_iou: Fraction = _DETECTOR.nms_iou
    max_detections: PositiveInt = _DETECTOR.max_detections
    norm: Literal["gn", "bn"] = "gn"

    def constants(self) -> DetectorConstants:
        """Convert to the constants that the models take."""
        return DetectorConstants(**self.model_dump())


class TrainSettings(Settings):
    """``[train]``: training recipe of every candidate, from scratch.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step.
        optimizer: ``adamw``, or ``sgd`` with momentum 0.9.
        learning_rate: Peak learning rate for 16 images per step; scaled linearly with the batch size.
        weight_decay: Weight decay, not applied to norms and biases.
        warmup: Share of all steps with linear warm-up from 0; cosine decay to 0 follows.
        clip_norm: Maximum norm of the gradients; larger ones are scaled down.
        flip: Probability of a horizontal flip.
        scale_jitter: Range (low, high) of the random scale factor of an image.
    """

    epochs: PositiveInt = 12
    batch_size: PositiveInt = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Fraction = 0.1
    clip_norm: Positive = 10.0
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    scale_jitter: Annotated[tuple[Positive, Positive], Field(strict=False)] = (0.8, 1.25)

    @field_validator("scale_jitter")
    @classmethod
    def _low_then_high(cls, jitter: tuple[float, float]) -> tuple[float, float]:
        if jitter[0] > jitter[1]:
            raise ValueError(f"`low <= high` must hold, but got (low={jitter[0]:g}, high={jitter[1]:g})")
        return jitter


class LatencySettings(Settings):
    """``[latency]``: latency measurement, with batch size 1 and in alternation with a reference detector.

    Attributes:
        reference: Architecture of the reference detector; the default is the first baseline.
        images: Number of validation images that a measurement cycles through.
        precision: Target width of the 95 % confidence interval of the latency ratio, relative to the ratio. A
            measurement ends when it is reached.
        max_seconds: Time limit of a measurement, without warm-up. To keep to it, blocks become shorter, but there are
            never fewer than 6 pairs.
        noise: Relative difference between two measurements of one detector. Latencies are rounded to a grid of this
            step, so that noise creates no front members. ``benchmarks/README.md`` has a measured value.
        runtime: Execution of detectors: ``eager`` (kernel by kernel), ``graph`` (CUDA graphs), or ``auto`` (``graph``
            on a GPU, otherwise ``eager``).
    """

    reference: Arch | None = None
    images: PositiveInt = 32
    precision: Fraction = 0.01
    max_seconds: Positive = 20.0
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.01
    runtime: Literal["auto", "eager", "graph"] = "auto"


class StudySettings(Settings):
    """A whole study file."""

    data: DataSettings = DataSettings()
    space: SpaceSettings = SpaceSettings()
    search: SearchSettings = SearchSettings()
    modular: ModularSettings = ModularSettings()
    detector: DetectorSettings = DetectorSettings()
    train: TrainSettings = TrainSettings()
    latency: LatencySettings = LatencySettings()

    @model_validator(mode="after")
    def _reference_exists(self) -> Self:
        if self.latency.reference is None and not self.search.baselines:
            raise ValueError("[latency] reference must be set if [search] baselines is empty")
        return self

    @model_validator(mode="after")
    def _rungs_come_before_the_end(self) -> Self:
        if self.rungs and self.rungs[-1] >= self.train.epochs:
            raise ValueError(
                f"`rungs < epochs` must hold, but got ([search] rungs = {list(self.rungs)}, "
                f"[train] epochs = {self.train.epochs})"
            )
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which the AP of a training is checked, ascending."""
        if self.search.rungs is not None:
            return self.search.rungs
        quarter = self.train.epochs // 4
        return (quarter,) if quarter else ()

    @property
    def reference(self) -> str:
        """Architecture of the reference detector that latencies are measured against."""
        return self.latency.reference or self.search.baselines[0]


def load_settings(study_dir: Path) -> StudySettings:
    """Return the settings in ``study_dir/study.toml``.

    Raises:
        ConfigError: If the file is missing or is not TOML, has an unknown key, or has an impossible value.
    """
    path = study_dir / STUDY_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file",
            fix="name a folder that holds a study.toml, such as studies/shapes, or copy one from there",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})", fix="make it a readable text file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}", fix="correct that line; see https://toml.io") from None
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        raise _config_error(path, error) from None


def _config_error(path: Path, error: ValidationError) -> ConfigError:
    """Turn pydantic's first error into a message in terms of the study file."""
    problems = error.errors()
    # An unknown key explains a missing one, so it comes first.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    count = f" ({len(problems)} problems in all)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        key, known = str(problem["loc"][-1]), _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0)
        fix = f"did you mean `{near[0]}`? known here: {', '.join(known)}" if near else "remove it"
        return ConfigError(f"{path}: unknown key `{where}`{count}", fix=fix)
    cause = problem["msg"].removeprefix("Value error, ")
    got = "" if isinstance(problem["input"], dict) else f", but got {problem['input']!r}"
    return ConfigError(f"{path}: {where or 'the study'}: {cause}{got}{count}", fix="correct that value")


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = StudySettings
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(model.model_fields)
