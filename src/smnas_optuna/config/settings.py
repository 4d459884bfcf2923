"""Settings of a study. They are frozen, and unknown keys are errors.

Every number has bounds. They are far beyond what anybody needs, and keep out what no arithmetic survives: a batch of
1e20 images, or a step of 1e-320.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from smnas_optuna.arch import BackboneSpec, DetectorConstants, FcHeadSpec, NeckSpec, decode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, BACKBONE_TOP, MAX_BLOCKS, MAX_EDGE, MIN_BLOCKS
from smnas_optuna.errors import ArchError

_DETECTOR = DetectorConstants()

DeviceChoice = Literal["auto", "cpu", "cuda"]
"""Requested device; ``auto`` is CUDA where it is available, and otherwise the CPU."""
Runtime = Literal["eager", "graph", "onnxruntime", "openvino", "cuda", "tensorrt"]
"""What runs detectors while they are timed; see :class:`LatencySettings`."""
RuntimeChoice = Literal["auto", "eager", "graph", "onnxruntime", "openvino", "cuda", "tensorrt"]
DataFormat = Literal["auto", "coco", "roboflow", "yolo", "voc"]
"""Format of annotations; ``auto`` is COCO where the file that ``[data] train`` names exists, and otherwise the one that
the data folder looks like."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
Number = Annotated[int, Field(gt=0, le=1_000_000)]
"""Images or trainings; a million trainings of a minute each take two years."""
Samples = Annotated[int, Field(gt=0, le=100_000)]
"""Boxes of one image; the largest input has 1.6 million anchors on its lowest level."""
Scale = Annotated[float, Field(ge=0.01, le=100)]
"""Factor that an image is scaled by; at a hundredth or a hundredfold no object is left to see."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
MIN_NOISE = 1e-6
"""Smallest step of the grid of latencies; clocks are no finer. 0 is no grid."""
LEAST_POPULATION = 4
"""Individuals of a generation around one parent, at least, however small the budget is."""
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


def _input_size(text: str) -> None:
    if str(size := parse_input_size(text)) != text:
        raise ArchError(f"input size {text!r} is {size}", fix="write it without zeros in front")


Arch = Annotated[str, _checked(decode)]
Size = Annotated[str, _checked(_input_size)]
Family = Annotated[str, _checked(lambda family: BackboneSpec(family=family, width=64))]
MinLevel = Annotated[int, _checked(lambda level: NeckSpec(min_level=level, max_level=5, channels=64))]
MaxLevel = Annotated[int, _checked(lambda level: _neck(level, "pool" if level > BACKBONE_TOP else None))]
Extra = Annotated[str, _checked(lambda extra: _neck(BACKBONE_TOP + 1, extra))]
Width = Annotated[int, _checked(lambda width: FcHeadSpec(width=width))]
Head = Literal["retina", "fc", "cascade2", "cascade3", "cascade4"]

Choice = TypeVar("Choice")
Choices = Annotated[tuple[Choice, ...], Field(min_length=1, max_length=1000, strict=False)]  # a TOML array is a list


class Settings(BaseModel):
    """Base of every table of a study file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ShapesSettings(Settings):
    """``[data.shapes]``: draw the embedded data set into the data folder if it does not exist yet."""

    train_images: Number
    val_images: Number
    width: Annotated[int, Field(ge=64, le=MAX_EDGE)] = 256
    height: Annotated[int, Field(ge=64, le=MAX_EDGE)] = 192
    seed: Seed = 0


class DataSettings(Settings):
    """``[data]``: location of the data; all paths are relative to the data folder, and belong to COCO's format.

    Attributes:
        format: Format of the annotations; see :mod:`smnas_optuna.data.formats`.
        train: Annotation file of the training images, COCO format.
        val: Annotation file of the validation images. Without one, ``val_fraction`` of the training images are held
            out.
        test: Annotation file of the test images. No search uses them; ``smnas verify``, ``train`` and ``evaluate`` do.
        images: Image folder of all annotation files.
        val_images: Folder of the validation images, if it differs.
        test_images: Folder of the test images, if it differs.
        val_fraction: Share of the images that is held out for validation, chosen by a hash of their content, if there
            are no validation images.
        groups: Hold out whole groups where file names tell of videos or scenes; see :mod:`smnas_optuna.data.groups`.
        drop_empty_boxes: Drop boxes that have no area, lie outside the image or are not a number, instead of rejecting
            the file.
        shapes: Draw the embedded data set.
    """

    format: DataFormat = "auto"
    train: str = "instances_train.json"
    val: str | None = None
    test: str | None = None
    images: str = "images"
    val_images: str | None = None
    test_images: str | None = None
    val_fraction: Fraction = 0.2
    groups: bool = True
    drop_empty_boxes: bool = False
    shapes: ShapesSettings | None = None


def _without_repeats(choices: tuple[object, ...]) -> tuple[object, ...]:
    twice = [choice for choice, count in Counter(choices).items() if count > 1]
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
        hours: Budget of ``smnas search`` in hours, both stages and their verification together. With it ``trials``
            bind no longer there; without it they do.
        trials: Budget: number of unique architectures to train, including the baselines and earlier runs.
        population: Individuals per NSGA-II generation.
        seed: Seed of sampling, initial weights and augmentation.
        surrogate: Rank the children of NSGA-II by a model of AP and latency that learns from the trained detectors,
            and train the most promising one. ``false`` is plain NSGA-II.
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

    hours: Annotated[float, Field(gt=0, le=10_000)] | None = None
    trials: Number = 60
    population: Annotated[int, Field(ge=2, le=10_000)] = 10
    seed: Seed = 0
    surrogate: bool = True
    baselines: Annotated[tuple[Arch, ...], Field(max_length=1000, strict=False)] = ()
    max_seconds_per_trial: Annotated[float, Field(ge=1e-3, le=1e9)] | None = None
    max_latency_ms: Annotated[float, Field(ge=1e-3, le=1e9)] | None = None
    max_params: Annotated[int, Field(gt=0, le=10**12)] | None = None
    ap_spread: Annotated[float, Field(ge=0, le=1)] = 0.02
    rungs: Annotated[tuple[Number, ...], Field(strict=False)] | None = None
    rung_margin: Annotated[float, Field(ge=0, le=1)] = 0.9
    keep_weights: Literal["front", "all"] = "front"

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if rungs is not None and list(rungs) != sorted(set(rungs)):
            raise ValueError("epochs must ascend, each above the one before")
        return rungs


class TrainSettings(Settings):
    """``[train]``: training recipe of every candidate, from scratch; ``[modular.train]`` may change it for stage 2.

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
        bf16_on_cpu: Train backbone and neck in bf16 on a CPU, too. On CUDA they always are. Not among the JSON values
            unless it is true: studies that are older than this setting have the recipe that they began with.
    """

    epochs: Annotated[int, Field(gt=0, le=100_000)] = 12
    batch_size: Annotated[int, Field(gt=0, le=65_536)] = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(ge=1e-12, le=1000)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.05
    warmup: Fraction = 0.1
    clip_norm: Annotated[float, Field(ge=1e-6, le=1e12)] = 10.0
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    scale_jitter: Annotated[tuple[Scale, Scale], Field(strict=False)] = (0.8, 1.25)
    bf16_on_cpu: Annotated[bool, Field(exclude_if=operator.not_)] = False

    @field_validator("scale_jitter")
    @classmethod
    def _low_then_high(cls, jitter: tuple[float, float]) -> tuple[float, float]:
        if jitter[0] > jitter[1]:
            raise ValueError(f"`low <= high` must hold, but got (low={jitter[0]:g}, high={jitter[1]:g})")
        return jitter


class ModularTrainSettings(TrainSettings):
    """``[modular.train]``: the recipe of stage 2, where it differs from ``[train]``.

    A key that the file does not have is that of ``[train]``, whatever the value here. Only the keys that the file has
    are written when the settings are written as JSON values.
    """

    @property
    def given(self) -> dict[str, Any]:
        """The values that the file has, by name; empty if stage 2 has the recipe of stage 1."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    @model_serializer(mode="wrap")
    def _only_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


class ModularSettings(Settings):
    """``[modular]``: budget and recipe of the modular search; all other settings are those of ``[search]``.

    Attributes:
        parents: Number of members of the structural front whose modules are searched.
        trials: Budget: number of unique architectures to train, over all parents and earlier runs.
        population: Individuals per NSGA-II generation around one parent. The default is a quarter of a parent's share
            of ``trials``, and at least 4. The first generation, of mutations of the parent, is a quarter of the share
            at most.
        train: What differs from ``[train]`` in the recipe of stage 2. APs of different recipes do not compare, so that
            stage 2 then trains its parents again, and learns no AP from stage 1.
    """

    parents: Annotated[int, Field(gt=0, le=1000)] = 3
    trials: Number = 60
    population: Annotated[int, Field(ge=2, le=10_000)] | None = None
    train: ModularTrainSettings = ModularTrainSettings()

    @property
    def individuals(self) -> int:
        """Individuals per generation around one parent."""
        return self.population or max(LEAST_POPULATION, self.trials // self.parents // 4)


class DetectorSettings(Settings):
    """``[detector]``: constants that all candidates share; see :class:`smnas_optuna.arch.DetectorConstants`."""

    anchor_scale: Annotated[float, Field(ge=1, le=MAX_EDGE)] = _DETECTOR.anchor_scale
    train_proposals: Samples = _DETECTOR.train_proposals
    test_proposals: Samples = _DETECTOR.test_proposals
    guided_proposals: Samples = _DETECTOR.guided_proposals
    rpn_samples: Samples = _DETECTOR.rpn_samples
    roi_samples: Samples = _DETECTOR.roi_samples
    guided_roi_samples: Samples = _DETECTOR.guided_roi_samples
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = _DETECTOR.score_threshold
    nms_iou: Fraction = _DETECTOR.nms_iou
    max_detections: Samples = _DETECTOR.max_detections
    norm: Literal["gn", "bn"] = "gn"

    def constants(self) -> DetectorConstants:
        """Convert to the constants that the models take."""
        return DetectorConstants(**self.model_dump())


class LatencySettings(Settings):
    """``[latency]``: latency measurement, with batch size 1 and in alternation with a reference detector.

    Attributes:
        reference: Architecture of the reference detector; the default is the first baseline.
        images: Number of validation images that a measurement cycles through; a stopwatch gets 256 of them at most.
        precision: Target width of the 95 % confidence interval of the latency ratio, relative to the ratio. A
            measurement ends when it is reached.
        max_seconds: Time limit of a measurement, without warm-up. To keep to it, blocks become shorter, but there are
            never fewer than 6 pairs.
        noise: Relative difference between two measurements of one detector. Latencies are rounded to a grid of this
            step, so that noise creates no front members. ``benchmarks/README.md`` has a measured value.
        runtime: What runs detectors while they are timed: ``onnxruntime`` or ``openvino`` (exported files, on a CPU),
            ``graph`` (CUDA graphs), ``eager`` (torch, kernel by kernel), or ``auto``: ``graph`` on a GPU, otherwise
            ``onnxruntime``. A study that has begun keeps what ``auto`` meant then. With ``device`` also ``cuda`` or
            ``tensorrt``: ONNX Runtime on that device's GPU.
        device: URL of the stopwatch of another device, ``http://host:port``; detectors are timed there, in place of
            here. Its token is in the environment variable ``SMNAS_STOPWATCH_TOKEN``.
    """

    reference: Arch | None = None
    images: Number = 32
    precision: Annotated[float, Field(ge=1e-6, lt=1)] = 0.01
    max_seconds: Annotated[float, Field(ge=1e-3, le=86_400)] = 20.0
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.01
    runtime: RuntimeChoice = "auto"
    device: Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=300)] | None = None

    @model_validator(mode="after")
    def _a_stopwatch_runs_files(self) -> Self:
        if self.device is not None and self.runtime in ("eager", "graph"):
            raise ValueError(f"a stopwatch runs exported files, but got runtime = {self.runtime!r} (device is set)")
        if self.device is None and self.runtime in ("cuda", "tensorrt"):
            raise ValueError(
                f"runtime = {self.runtime!r} is for a device with a stopwatch, and device is not set; "
                "a GPU of this machine is timed with 'graph' or 'eager'"
            )
        return self

    @field_validator("noise")
    @classmethod
    def _none_or_a_step(cls, noise: float) -> float:
        if 0 < noise < MIN_NOISE:
            raise ValueError(f"it must be 0 or at least {MIN_NOISE:g}")
        return noise


class LoggingSettings(Settings):
    """``[logging]``: other tools that get the curves of a search and of ``smnas train``; no number depends on it.

    Attributes:
        tensorboard: Write them for TensorBoard, into ``tensorboard/`` in the study folder.
        mlflow: Name of an experiment of MLflow that gets them; the variable ``MLFLOW_TRACKING_URI`` names the server.
    """

    tensorboard: bool = False
    mlflow: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class RaySettings(Settings):
    """``[ray]``: what a training takes of a node of a Ray cluster; no number depends on it.

    Attributes:
        gpus: A whole number of GPUs, or a share of one; the default is 1 if a node has GPUs, else 0.
        cpus: CPU cores. A training on the CPU has as many threads.
    """

    gpus: Annotated[float, Field(ge=0, le=64)] | None = None
    cpus: Annotated[float, Field(ge=0.01, le=1024)] = 1.0

    @field_validator("gpus")
    @classmethod
    def _whole_or_a_share(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus % 1:
            raise ValueError("it must be a whole number, or less than 1")
        return gpus


class StudySettings(Settings):
    """A whole study file."""

    data: DataSettings = DataSettings()
    space: SpaceSettings = SpaceSettings()
    search: SearchSettings = SearchSettings()
    modular: ModularSettings = ModularSettings()
    detector: DetectorSettings = DetectorSettings()
    train: TrainSettings = TrainSettings()
    latency: LatencySettings = LatencySettings()
    logging: LoggingSettings = LoggingSettings()
    ray: RaySettings = RaySettings()

    @model_validator(mode="after")
    def _reference_exists(self) -> Self:
        if self.latency.reference is None and not self.search.baselines:
            raise ValueError("[latency] reference must be set if [search] baselines is empty")
        return self

    @model_validator(mode="after")
    def _rungs_come_before_the_end(self) -> Self:
        table = "train"
        for stage in (self, self.for_modular()):
            if stage.rungs and stage.rungs[-1] >= stage.train.epochs:
                raise ValueError(
                    f"`rungs < epochs` must hold, but got ([search] rungs = {list(stage.rungs)}, "
                    f"[{table}] epochs = {stage.train.epochs})"
                )
            table = "modular.train"
        return self

    def for_modular(self) -> Self:
        """Return the settings of stage 2: ``train`` is its recipe, and all else stays."""
        given = self.modular.train.given
        return self.model_copy(update={"train": self.train.model_copy(update=given)}) if given else self

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
