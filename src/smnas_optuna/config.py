"""A study's settings, read from its ``study.toml``: frozen, and unknown keys are refused."""

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

DeviceChoice = Literal["auto", "cpu", "cuda"]

_DETECTOR = DetectorConstants()

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Blocks = Annotated[int, Field(ge=MIN_BLOCKS, le=MAX_BLOCKS)]


def _neck(max_level: int, extra: str | None) -> NeckSpec:
    return NeckSpec(min_level=2, max_level=max_level, channels=64, extra=extra)


def _checked(build: Callable[[Any], object]) -> AfterValidator:
    """A validator that keeps a value if ``build`` makes something of it; the specs know what is possible."""

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
    """Base of every table of a study file: frozen; a key that nobody reads is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ShapesSettings(Settings):
    """``[data.shapes]``: draw the embedded data set into the data folder when it is not there yet."""

    train_images: PositiveInt
    val_images: PositiveInt
    width: Annotated[int, Field(ge=64)] = 256
    height: Annotated[int, Field(ge=64)] = 192
    seed: Annotated[int, Field(ge=0)] = 0


class DataSettings(Settings):
    """``[data]``: where the data lies; all paths are relative to the data folder.

    Attributes:
        train: Annotation file of the training images, COCO format.
        val: Annotation file of the validation images; without one, ``val_fraction`` of the others are set aside.
        test: Annotation file of images that no search sees, for ``smnas verify`` alone.
        images: Folder of the images, for all files.
        val_images: Folder of the validation images, if it is another one.
        test_images: Folder of the test images, if it is another one.
        val_fraction: Share of the images set aside, chosen by a hash of their content.
        drop_empty_boxes: Leave out boxes without area, outside the image or not a number, instead of refusing the file.
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
        raise ValueError(f"{twice[0]!r} is there twice")
    return choices


class StructuralSpace(Settings):
    """``[space.structural]``: the choices of stage 1, in the order of their cost. The defaults are the paper's space.

    Attributes:
        input_sizes: Written ``<long>x<short>``, in pixels.
        backbones: Families of classic networks.
        backbone_widths: Base widths; 64 is the classic.
        necks: ``c4`` (no pyramid; the last backbone stage is applied to each RoI) and ``fpn``.
        neck_min_levels: First levels of the pyramid; level ``l`` has stride ``2**l``.
        neck_max_levels: Last levels of the pyramid.
        neck_channels: Widths of the pyramid.
        neck_extras: How levels above p5 are made: ``pool``, ``conv_c5`` or ``conv_p5``; see
            :class:`smnas_optuna.arch.NeckSpec`.
        rpns: ``rpn``, and ``ga`` with Guided Anchoring; the one-stage head ``retina`` takes none.
        heads: ``retina`` (one-stage; always has a pyramid), and the RoI heads ``fc`` and ``cascade2`` .. ``cascade4``.
        head_widths: Widths of the fully connected layers of RoI heads behind a pyramid.
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
    """``[space.modular]``: the choices of stage 2, in the order of their cost. The defaults are the paper's space.

    What a parent brings along, its depth and its widths, is always among them.

    Attributes:
        base_channels: Of the backbone's stem and first blocks; the others double them up to three times.
        stems: ``conv3`` is the paper's, ``conv7`` ResNet's; see :class:`smnas_optuna.arch.EncodedBackboneSpec`.
        min_blocks: Blocks of the backbone, at least.
        max_blocks: Blocks of the backbone, at most.
        neck_channels: Widths of the pyramid.
        head_widths: Widths of the fully connected layers of RoI heads behind a pyramid.
        vary_input_size: Whether the input may also be the next smaller or larger one of ``[space.structural]``.
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
    """``[space]``: what is searched, one table a stage."""

    structural: StructuralSpace = StructuralSpace()
    modular: ModularSpace = ModularSpace()


class SearchSettings(Settings):
    """``[search]``: how long and how the space is searched.

    Attributes:
        trials: Budget: unique architectures that are trained, the baselines and earlier runs included.
        population: Individuals of an NSGA-II generation.
        seed: Of sampling, initial weights and augmentation.
        baselines: Architectures of the space that are tried first, cheapest first.
        max_seconds_per_trial: An architecture whose training would take longer, as its first steps say, is pruned. Not
            part of what the numbers depend on: with another limit the search goes on, and judges anew.
        max_latency_ms: Of an image. What would be slower, as its time before training says, is pruned; what turns out
            to be is on no front. With another limit the search goes on, and judges anew.
        max_params: Parameters of a detector, as above.
        ap_spread: Standard deviation of AP over seeds, in [0, 1]: what AP must be higher by to be called higher where
            partial-order pruning takes one detector's word for another's. ``benchmarks/README.md`` has measured ones.
        rungs: Epochs, ascending, after which a training is judged by its AP so far, and stopped early if a trained
            detector that is as fast was far ahead by then; a quarter of ``[train] epochs`` if none are named, and with
            ``[]`` all are trained to the end.
        rung_margin: By what part of that detector's AP it must lag behind to be stopped, in [0, 1], and at least by
            ``ap_spread``; with 1 nothing is. ``benchmarks/early_stop.py`` says what it saves and costs.
        keep_weights: Whose weights stay on the disk: ``front`` or ``all``.
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
    """``[modular]``: how long stage 2 searches; all else is as in ``[search]``.

    Attributes:
        parents: Structures of the structural front whose modules are searched.
        trials: Budget: unique architectures that are trained, over all parents and earlier runs.
    """

    parents: PositiveInt = 3
    trials: PositiveInt = 60


class DetectorSettings(Settings):
    """``[detector]``: what all candidates share; see :class:`smnas_optuna.arch.DetectorConstants`."""

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
        """These settings, as the models take them."""
        return DetectorConstants(**self.model_dump())


class TrainSettings(Settings):
    """``[train]``: how every candidate is trained, from scratch.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        optimizer: ``adamw``, or ``sgd`` with momentum 0.9.
        learning_rate: Highest rate, per 16 images; scaled linearly with the batch.
        weight_decay: Not applied to norms and biases.
        warmup: Share of all steps in which the rate grows linearly from 0; a cosine to 0 follows.
        clip_norm: Gradients are scaled to at most this norm.
        flip: Probability of a horizontal flip.
        scale_jitter: Range of the factor that an image is scaled by.
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
    """``[latency]``: how the time of one image is measured; batch 1, in alternation with a reference detector.

    Attributes:
        reference: Architecture of the reference detector; the first baseline if none is named.
        images: Validation images that are cycled through.
        precision: A measurement ends when the 95 % confidence interval of the ratio is this narrow, a part of it.
        max_seconds: Time a measurement may take, warm-up apart; shorter blocks then, but never fewer than 6 pairs.
        noise: How far two measurements of one detector are apart, a part of it: latencies are rounded to a grid of
            this step, so that noise makes no members of the front. ``benchmarks/README.md`` has a measured one.
        runtime: How detectors are run: ``eager``, kernel by kernel, or ``graph``, by CUDA graphs; ``auto`` is by graphs
            where there is a GPU.
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
            raise ValueError("[latency] reference is missing, and there is no [search] baselines to take it from")
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
        """Epochs after which a training is judged by its AP, ascending."""
        if self.search.rungs is not None:
            return self.search.rungs
        quarter = self.train.epochs // 4
        return (quarter,) if quarter else ()

    @property
    def reference(self) -> str:
        """Architecture that every candidate is timed against."""
        return self.latency.reference or self.search.baselines[0]


def load_settings(study_dir: Path) -> StudySettings:
    """Return the settings in ``study_dir/study.toml``.

    Raises:
        ConfigError: If the file is missing or is not TOML, has a key that nobody reads, or an impossible value.
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
        raise ConfigError(f"{path}: is not TOML: {error}", fix="mend that line; https://toml.io shows how") from None
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        raise _config_error(path, error) from None


def _config_error(path: Path, error: ValidationError) -> ConfigError:
    """The first of pydantic's complaints, in the study file's own words."""
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
