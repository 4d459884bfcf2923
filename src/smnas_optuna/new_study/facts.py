"""Facts that a new study is made from: of the data, of the device, and of what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.config import DataSettings

if TYPE_CHECKING:
    from smnas_optuna.data import CocoDataset, Splits

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """A value of a study file, and the fact that it came from, in a few words."""

    value: T
    because: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a user asks of a new study.

    Attributes:
        hours: Time for the whole search, hours.
        max_latency_ms: Limit for the latency of one image; None for no limit.
    """

    hours: float
    max_latency_ms: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DataFacts:
    """Facts of a data set with ``N`` training images and ``M`` objects in them; crowd regions are no objects.

    Attributes:
        settings: The ``[data]`` table that reads it.
        title: Name of its format.
        why: What tells the format and the files.
        num_train: Number of training images.
        num_val: Number of validation images.
        num_test: Number of test images; 0 without any.
        held_out: True if the validation images are a part of the training file.
        num_classes: Number of classes.
        images: float64 [N, 2], (long edge, short edge) of each image, pixels.
        boxes: float64 [M, 2], (width, height) of each object, pixels of its image.
        image_of_box: int64 [M], image of each object, an index into ``images``.
        objects: int64, number of objects in each training and validation image.
    """

    settings: DataSettings
    title: str
    why: str
    num_train: int
    num_val: int
    num_test: int
    held_out: bool
    num_classes: int
    images: NDArray[np.float64]
    boxes: NDArray[np.float64]
    image_of_box: NDArray[np.int64]
    objects: NDArray[np.int64]

    @property
    def aspect(self) -> float:
        """Median ratio of the long to the short edge, at least 1."""
        return float(np.median(self.images[:, 0] / self.images[:, 1]))

    @property
    def size_in_words(self) -> str:
        """Sizes of the images, in words."""
        longs, shorts = self.images.T
        middle = f"{np.median(longs):.0f}x{np.median(shorts):.0f}"
        if len(np.unique(self.images, axis=0)) == 1:
            return f"all images are {middle}"
        return f"images are {middle} in the median, with long edges of {longs.min():.0f} to {longs.max():.0f} px"

    def boxes_at(self, long: int, short: int) -> NDArray[np.float64]:
        """Return the (width, height) of each object once its image fits inside ``long`` x ``short``, pixels, [M, 2]."""
        scale = np.minimum(long / self.images[:, 0], short / self.images[:, 1])
        return self.boxes * scale[self.image_of_box, None]

    def edge_at(self, percentile: float, long: int, short: int) -> float:
        """Return a percentile (0..100) of the objects' edges in input pixels.

        An edge is the square root of an area; of an object that is more than four times as long as wide, twice its
        width: a line of text that is a pixel high is not seen, however long.
        """
        boxes = self.boxes_at(long, short)
        edges = np.minimum(np.sqrt(boxes.prod(axis=1)), 2 * boxes.min(axis=1))
        return float(np.percentile(edges, percentile))


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One detector, timed on the device.

    Attributes:
        arch: Its architecture.
        multiply_adds: Of one image.
        train_s: Seconds of a training step, for each of its images.
        detect_s: Seconds of the detection in an image of a batch.
        latency_ms: Milliseconds of the detection in one image, in torch.
    """

    arch: str
    multiply_adds: int
    train_s: float
    detect_s: float
    latency_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFacts:
    """Facts of the device.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        name: Its model.
        workers: Workers that a search starts here.
        threads: CPU threads of each worker, if it is a CPU.
        timed: Detectors that were timed on it, at least one, in fp32 if it is a CPU.
        bf16: True if it is a CPU that multiplies in bf16.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    workers: int
    threads: int
    timed: tuple[Timed, ...]
    bf16: bool = False

    @property
    def in_words(self) -> str:
        """The device and its workers, in words."""
        if self.kind == "cuda":
            return f"{self.workers} GPU{'s' if self.workers > 1 else ''}, {self.name}"
        each = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"CPU, {self.name}; {self.workers} worker{'s' if self.workers > 1 else ''} of {each}"


def facts_of(splits: Splits, settings: DataSettings, *, title: str, why: str) -> DataFacts:
    """Return the facts of checked data; see :class:`DataFacts` for the arguments."""
    train, val = splits.train, splits.val
    kept = [image.boxes[~image.crowd] for image in train.images]
    boxes = np.concatenate(kept).astype(np.float64)
    edges = np.array([(image.width, image.height) for image in train.images], np.float64)
    return DataFacts(
        settings=settings,
        title=title,
        why=why,
        num_train=len(train.images),
        num_val=len(val.images),
        num_test=0 if splits.test is None else len(splits.test.images),
        held_out=splits.held_out,
        num_classes=train.num_classes,
        images=np.sort(edges, axis=1)[:, ::-1],
        boxes=boxes[:, 2:] - boxes[:, :2],
        image_of_box=np.repeat(np.arange(len(kept)), [len(each) for each in kept]),
        objects=np.array([*_counts(train), *_counts(val)], np.int64),
    )


def _counts(dataset: CocoDataset) -> list[int]:
    return [int((~image.crowd).sum()) for image in dataset.images]
