"""What ``studies/coco`` would cost: multiply-adds of random draws of both stages, at a published speed of training.

    python benchmarks/coco_cost.py

prints the lines that stand in the header of ``studies/coco/study.toml``. Nothing is trained, and nothing here is a
measurement of ours. The one measured number is the speed of training Faster R-CNN R50-FPN on eight V100 that
torchvision and detectron2 publish, and every other detector is taken to train slower or faster as its multiply-adds are
more or fewer. They are counted with the RoIs that a training samples, not with the proposals of a detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import command_line
from numpy.typing import NDArray

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.batch import canvas_size
from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.search_space import ModularSearchSpace, StructuralSearchSpace

STUDY = Path(__file__).parents[1] / "studies" / "coco"
CLASSES, TRAIN_IMAGES, VAL_IMAGES = 80, 118_287, 5_000
"""COCO 2017."""
PUBLISHED = "1333x800.resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024"
IMAGES_PER_S = (70 / 8, 76 / 8)
"""Training of ``PUBLISHED`` on one V100: torchvision's and detectron2's published 70 and 76 images/s on eight."""
STRUCTURES, PARENTS, CHILDREN = 1000, 150, 20
"""Draws of stage 1; parents that stage 2 is drawn around, and draws around each."""

Hours = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """V100-hours of one stage, at the mean of both published speeds.

    Attributes:
        trials: Number of trainings.
        hours: Mean hours of a training within the limit.
        unlimited_hours: The same of all draws.
        refused: Share of the draws that the limit refuses, in [0, 1].
        spread: Standard deviation of ``total`` from what is drawn; in stage 2 from the parents, which stage 1 finds.
    """

    trials: int
    hours: float
    unlimited_hours: float
    refused: float
    spread: float

    @property
    def total(self) -> float:
        """V100-hours of the stage."""
        return self.trials * self.hours


def structural_cost(settings: StudySettings) -> Cost:
    """Cost of stage 1, if the architectures that it trains cost as much as random ones that keep to the limit."""
    hours = hours_of(settings, draw_structures(settings))
    kept = hours[hours <= _limit(settings)]
    trials = settings.search.trials
    return Cost(
        trials=trials,
        hours=kept.mean(),
        unlimited_hours=hours.mean(),
        refused=float(1 - len(kept) / len(hours)),
        spread=float(kept.std(ddof=1) * trials**0.5),
    )


def modular_cost(settings: StudySettings) -> Cost:
    """Cost of stage 2 around random parents that keep to the limit; ``spread`` is that over the choice of parents."""
    random, stage = np.random.default_rng(1), settings.for_modular()
    parents = [spec for spec in draw_structures(settings) if hours_of(settings, [spec])[0] <= _limit(settings)][
        :PARENTS
    ]
    means, drawn = [], []
    for parent in parents:
        space = ModularSearchSpace(settings.space.modular, parent, settings.space.structural.input_sizes)
        hours = hours_of(stage, [space.express(space.draw(random)) for _ in range(CHILDREN)])
        drawn.append(hours)
        kept = hours[hours <= _limit(settings)]
        if len(kept):
            means.append(float(kept.mean()))
    everything, trials = np.concatenate(drawn), settings.modular.trials
    return Cost(
        trials=trials,
        hours=float(np.mean(means)),
        unlimited_hours=everything.mean(),
        refused=float((everything > _limit(settings)).mean()),
        spread=float(trials * np.std(means, ddof=1) / settings.modular.parents**0.5),
    )


def draw_structures(settings: StudySettings, *, by_gene: bool = False) -> list[DetectorSpec]:
    """The architectures that stage 1 is costed by, always the same ones.

    They are drawn as the search draws them, all equally likely; with ``by_gene`` all values of a gene are.
    """
    random, space = np.random.default_rng(0), StructuralSearchSpace(settings.space.structural)
    draw = super(StructuralSearchSpace, space).draw if by_gene else space.draw
    return [space.express(draw(random)) for _ in range(STRUCTURES)]


def cache_gb(settings: StudySettings) -> float:
    """GB of all images as bytes, three channels, on the canvas of each input size."""
    sizes = [parse_input_size(size) for size in settings.space.structural.input_sizes]
    canvases = [canvas_size(size.long, size.short, portrait=False) for size in sizes]
    return sum(3.0 * (TRAIN_IMAGES + VAL_IMAGES) * height * width for height, width in canvases) / 1e9


def header(settings: StudySettings) -> list[str]:
    """The lines on cost in the study's header."""
    one, two = structural_cost(settings), modular_cost(settings)
    parts = [
        f"Stage {number}: {cost.trials:,} trainings of {epochs} epochs, {cost.hours:.1f} hours each on average: about "
        f"{_rounded(cost.total)} V100-hours."
        for number, cost, epochs in (
            (1, one, settings.train.epochs),
            (2, two, settings.for_modular().train.epochs),
        )
    ]
    limit = f"{_limit(settings):.0f} hours"
    by_gene = draw_structures(settings, by_gene=True)
    by_gene_hours = settings.search.trials * hours_of(settings, by_gene).mean()
    without_pyramid = sum(spec.neck is None for spec in by_gene) / len(by_gene)
    return [
        *parts,
        f"The choice of the {settings.modular.parents} parents moves that of stage 2: standard deviation "
        f"{_rounded(two.spread)}.",
        f"The limit of {limit} refuses {one.refused:.0%} and {two.refused:.0%} of the draws; without it the stages "
        f"take {_rounded(one.trials * one.unlimited_hours)} and {_rounded(two.trials * two.unlimited_hours)}.",
        f"Drawn gene by gene, as stock NSGA-II begins, stage 1 would take {_rounded(by_gene_hours)}: "
        f"{without_pyramid:.0%} have no pyramid (no limit).",
        "Disk (computed): 1 byte a pixel and channel of every canvas at the four input sizes, "
        f"{_rounded(cache_gb(settings))} GB in studies/coco/cache.",
    ]


def hours_of(settings: StudySettings, specs: Sequence[DetectorSpec]) -> Hours:
    """V100-hours of a training of each of ``specs`` with the epochs of ``settings``."""
    constants = settings.detector.constants()
    # A training sends its sampled RoIs through the head, and a detection its proposals.
    sampled = replace(constants, test_proposals=constants.roi_samples, guided_proposals=constants.guided_roi_samples)
    count = WorkCounter(CLASSES, sampled)
    published = count(decode(PUBLISHED)).multiply_adds
    hours = settings.train.epochs * TRAIN_IMAGES / float(np.mean(IMAGES_PER_S)) / 3600
    return np.array([count(spec).multiply_adds / published * hours for spec in specs])


def _limit(settings: StudySettings) -> float:
    """The limit for one training, in hours; infinite without one."""
    seconds = settings.search.max_seconds_per_trial
    return float("inf") if seconds is None else seconds / 3600


def _rounded(value: float) -> str:
    """Two digits: more would be noise."""
    return f"{float(f'{value:.2g}'):,.0f}"


if __name__ == "__main__":
    command_line(__doc__).parse_args()
    print("\n".join(f"# {line}" for line in header(load_settings(STUDY))))
