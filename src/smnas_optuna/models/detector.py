"""Interface of a detector: losses and detections of a batch, and torchvision's list contract."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from smnas_optuna.batch import Batch, canvas_size, fit_inside
from smnas_optuna.models.detections import Candidates, FixedDetections, Selection

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet, RGB in [0, 1]: the usual normalisation."""


class DetectionHead(Protocol):
    """Interface of the part behind the neck.

    Features are p<l> -> Tensor[B, C, H / 2**l, W / 2**l]; boxes are in pixels of the canvas.
    """

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return losses by name, each Tensor[], averaged over the images."""

    def candidates(self, features: dict[str, Tensor], batch: Batch, *, fixed_time: bool) -> Candidates:
        """Return the scored boxes from which detections are selected.

        With ``fixed_time`` all shapes are fixed and nothing synchronizes with the device; ``settled`` is then True if
        the boxes are the exact ones.
        """

    @property
    def selection(self) -> Selection:
        """Rules that select detections from candidates."""

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run all layers once on their maximum workload."""


class Detector(nn.Module):
    """A detector with torchvision's detection contract; see :func:`smnas_optuna.models.build_detector`.

    Args:
        backbone: Tensor[B, 3, H, W] -> {c<l>: Tensor}.
        neck: {c<l>: Tensor} -> {p<l>: Tensor}.
        head: Part behind the neck; see :class:`DetectionHead`.
        long: Long edge of the input size, pixels.
        short: Short edge of the input size, pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module, *, long: int, short: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.long, self.short = long, short
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    @property
    def selection(self) -> Selection:
        """Rules that select detections from candidates."""
        rules: Selection = self.head.selection  # type: ignore[assignment]
        return rules

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return training losses by name, each Tensor[] in float32, averaged over the images of the batch."""
        features = self.features(batch)
        with _full_precision(batch.images.device):
            return self.head.losses(features, batch)  # type: ignore[no-any-return, operator]

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Detect objects in each image of ``batch``, highest score first.

        Boxes are Tensor[D, 4] in pixels of the original image; labels and scores are Tensor[D].
        """
        return self.select(self.candidates(batch, fixed_time=False), batch)

    def candidates(self, batch: Batch, *, fixed_time: bool) -> Candidates:
        """Return scored boxes in pixels of the canvas; see :class:`DetectionHead`."""
        features = self.features(batch)
        with _full_precision(batch.images.device):
            return self.head.candidates(features, batch, fixed_time=fixed_time)  # type: ignore[no-any-return, operator]

    @torch.inference_mode()
    def busy_threshold(self, batch: Batch) -> float:
        """Return the score threshold at which detection keeps this detector, which has hardly learnt, as busy as later.

        As many candidates of an image pass as it may have detections, in the mean. At a threshold of 0 all would, and
        NMS of 100 proposals for 1,000 classes takes a third of a second on a CPU. Sets evaluation mode.
        """
        scores = self.eval().candidates(batch, fixed_time=False).scores
        best = scores.topk(min(self.selection.max_detections, scores.shape[1]), dim=1).values
        return max(0.0, float(best[:, -1].mean()))

    def select(self, candidates: Candidates, batch: Batch) -> list[dict[str, Tensor]]:
        """Select the detections of ``batch`` from its ``candidates``; the result is that of :meth:`detect`."""
        detections = self.selection.exact(candidates)
        return [{**d, "boxes": d["boxes"] * scale} for d, scale in zip(detections, _scales(batch), strict=True)]

    def select_in_fixed_time(self, candidates: Candidates, batch: Batch) -> FixedDetections:
        """Select detections into a fixed number of slots, without synchronizing with the device.

        If ``settled`` is True, they are those of :meth:`select`.
        """
        found = self.selection.in_fixed_time(candidates)
        return replace(found, boxes=found.boxes * _scales(batch)[:, None])

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the input of the head: p<l> -> float32 Tensor[B, C, H / 2**l, W / 2**l]."""
        images = batch.images
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        images = (images / scale - self.mean) / self.std
        # In float32: boxes must be decoded and losses summed in full precision, or NMS breaks (vision#8241).
        return {name: feature.float() for name, feature in self.neck(self.backbone(images)).items()}

    def fixed_work(self, images: Tensor) -> None:
        """Run every layer once on Tensor[B, 3, H, W], without post-processing, to count the operations."""
        self.head.fixed_work(self.neck(self.backbone(images)))  # type: ignore[operator]

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return losses or detections of a list of images; see :func:`smnas_optuna.models.build_detector`.

        In training, torch's global generator draws the samples.
        """
        if self.training and targets is None:
            raise ValueError("targets must be given in training mode, but got None")
        batches = self._batches(images, targets if self.training else None)
        if self.training:
            # Each orientation has its own canvas; all images have the same weight.
            parts = [(len(indices) / len(images), self.losses(batch)) for indices, batch in batches]
            return {name: torch.stack([share * losses[name] for share, losses in parts]).sum() for name in parts[0][1]}
        found: dict[int, dict[str, Tensor]] = {}
        for indices, batch in batches:
            found.update(zip(indices, self.detect(batch), strict=True))
        return [found[index] for index in range(len(images))]

    def _batches(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None
    ) -> list[tuple[list[int], Batch]]:
        """Group the images by orientation, so that one image's canvas does not depend on the others."""
        batches = []
        for portrait in (False, True):
            indices = [i for i, image in enumerate(images) if (image.shape[-2] > image.shape[-1]) == portrait]
            if indices:
                chosen = None if targets is None else [targets[i] for i in indices]
                batches.append((indices, self._batch([images[i] for i in indices], chosen, portrait)))
        return batches

    def _batch(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None, portrait: bool) -> Batch:
        device = images[0].device
        height, width = canvas_size(self.long, self.short, portrait=portrait)
        canvas = self.mean.expand(len(images), 3, height, width).clone()
        sizes = [fit_inside(image.shape[-2], image.shape[-1], self.long, self.short) for image in images]
        for place, image, (resized_height, resized_width) in zip(canvas, images, sizes, strict=True):
            place[:, :resized_height, :resized_width] = resize(image, resized_height, resized_width)
        given = torch.tensor([image.shape[-2:] for image in images], device=device)
        resized = torch.tensor(sizes, device=device)
        scales = (resized / given).flip(1).repeat(1, 2)
        if targets is None:
            seeds = given.new_zeros(len(images))
            targets = [{"boxes": scales.new_zeros(0, 4), "labels": given.new_zeros(0)} for _ in images]
        else:
            seeds = torch.randint(2**63 - 1, (len(images),), device=device)
        boxes = [target["boxes"] * scale for target, scale in zip(targets, scales, strict=True)]
        labels = pad_sequence([target["labels"] for target in targets], batch_first=True)
        return Batch(
            images=canvas,
            boxes=pad_sequence(boxes, batch_first=True),
            labels=labels,
            crowd=torch.zeros_like(labels, dtype=torch.bool),
            num_boxes=(labels > 0).sum(1),
            image_ids=torch.arange(len(images), device=device),
            sizes=resized,
            original_sizes=given,
            seeds=seeds,
        )


def _scales(batch: Batch) -> Tensor:
    """Return factors from pixels of the canvas to original pixels, Tensor[B, 4] for (x, y, x, y)."""
    return (batch.original_sizes / batch.sizes).flip(1).repeat(1, 2)


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast inside, on devices that support it; the meta device does not."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize Tensor[3, H, W] to Tensor[3, height, width], bilinear with antialiasing, as the data cache does."""
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
