"""Rules for the scale of a study: how large its detectors are, and how many of them are trained. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from smnas_optuna.arch import BackboneSpec, DetectorSpec, FcHeadSpec, NeckSpec, RpnSpec, encode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.arch.spec import BACKBONE_TOP, MOBILENET, CascadeHeadSpec
from smnas_optuna.config import StructuralSpace
from smnas_optuna.new_study.cost import Cost
from smnas_optuna.new_study.facts import Asked, Chosen, DataFacts, DeviceFacts
from smnas_optuna.new_study.sizes import (
    choose_max_levels,
    choose_min_levels,
    choose_sizes,
    largest_edges,
    least_edge,
    size_of,
)

STRUCTURAL_SHARE, MODULAR_SHARE = 0.45, 0.4
"""Shares of the hours for both stages, those of ``smnas search``. The rest is for timing the front and verifying."""
START_S = 60.0
"""Assumed seconds of each stage before its first training: libraries, data, the forecast."""
TRIALS_AT, TRIALS_HOURS, TRIALS_POWER = 12, 0.5, 1 / 3
"""Trainings of stage 1 that a search of so many hours aims at, and the power of the hours that they grow with.
A choice: a surrogate needs some ten trainings before it chooses well, and larger trainings find better detectors. With
16 in half an hour a study of BCCD for a quarter of an hour had inputs of 96 px alone, and ended at AP 40.7 (x100); one
written by hand, with inputs up to 240 px, ended at 51.2 (docs/init.md)."""
LEAST_TRIALS, MOST_TRIALS = 6, 200
DEAR = 2.0
"""Kinds of detectors are left out if their largest takes longer than this, as a multiple of a training's share."""
DEARER = 1.1
"""Kinds of detectors are left out if the mean training would take longer than this, likewise. It is "hardly more", too:
the largest of a kind may take so many times what the largest without it takes."""
ROOM, TOLERATED = 2.0, 1.5
"""A study whose largest inputs are the smallest useful ones has little to find. So up to ``ROOM`` times their edge the
mean training may take ``TOLERATED`` times its share."""
WIDTHS = ((192, 16), (288, 16), (384, 24), (512, 32), (704, 48))
"""Base width of the widest backbones by the longest edge that it goes with, of 4:3 inputs of as many pixels: 16 up to
288 px, and 64, the classic one, above 704 px, as in the measured studies. So neither the images nor the network is the
narrow part. A choice between."""
CLASSIC = 64
MORE_WIDTH = (24, 32, 48, 64)
BASIC_FAMILIES = ("resnet18", "resnet34")
"""Backbones of every study. Deeper ones are taken in once the input size is chosen, as larger inputs are worth more in
as many hours: of 324 trainings on BCCD (benchmarks/search_table) those at 128 px had AP 21.3 (x100) in the mean after
30 seconds, those at 64 px 10.1 after 24; with ResNet-34 it was 19.5 after 37, with ResNet-18 20.7 after 26."""
MOBILENET_WIDTH = 32
"""Least base width of the widest backbones for MobileNetV2 to be among them. Of width 16 it had AP 0.9 (x100) on BCCD
after 260 steps (studies/bccd_small) and 0.0 on Chess after 408, where ResNets had 17 to 47."""
DEAR_FAMILIES = ("resnet50", "resnext50", "resnet101", "resnext101")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """A size of study.

    Attributes:
        edge: Long edge of the largest input size, pixels.
        width: Base width of the widest backbones.
    """

    edge: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The scale of a study.

    Attributes:
        rung: Its size.
        space: The structural space.
        reasons: Reason for each of the space's choices, by key; one for both keys of levels and of widths.
        training_s: Mean seconds of a training, by one worker.
        trial_s: Seconds by which a training delays the end.
        cheap: False if not even the smallest study has as many trainings as the hours aim at.
    """

    rung: Rung
    space: StructuralSpace
    reasons: dict[str, str]
    training_s: float
    trial_s: float
    cheap: bool


def width_at(size: tuple[int, int], kind: str) -> int:
    """Return the base width of the widest backbones for inputs of ``size`` px; a GPU always takes the classic 64.

    On an H200 a network of width 64 took 1.5 times the time of one of 16, with 7 times the multiply-adds
    (docs/results.md).
    """
    if kind == "cuda":
        return CLASSIC
    edge = math.sqrt(math.prod(size) * 4 / 3)
    widths: list[int] = [width for most, width in WIDTHS if edge <= most]
    return widths[0] if widths else CLASSIC


def rungs(facts: DataFacts, kind: str) -> list[Rung]:
    """Return all sizes of study for the data, cheapest first: larger inputs, then wider backbones.

    On a CPU the smallest inputs have narrower backbones, too, where they are large.
    """
    edges = largest_edges(facts)
    found = [Rung(edge=edge, width=width_at(size_of(facts, edge), kind)) for edge in edges]
    narrow = {width for _, width in WIDTHS if width < found[0].width and kind != "cuda"}
    return [
        *(Rung(edge=edges[0], width=width) for width in sorted(narrow)),
        *found,
        *(Rung(edge=edges[-1], width=width) for width in MORE_WIDTH if width > found[-1].width),
    ]


def widths_of(width: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return base widths, channels of the pyramid, and widths of the RoI heads for a largest base width.

    At 16 they are those of ``studies/bccd_small``, at 64 those of ``studies/bccd``: the pyramid is up to 4 times as
    wide as the backbone's first stage, and the head 16 times, as in the classic networks.
    """
    if width >= CLASSIC:
        return (width // 4, width // 2, width), (width, 2 * width, 4 * width), (4 * width, 16 * width)
    return (width // 2, width * 3 // 4, width), (2 * width, 4 * width), (8 * width, 16 * width)


def basic_families(width: int) -> tuple[str, ...]:
    """Return the cheaper families of backbones; see :data:`MOBILENET_WIDTH`."""
    return (MOBILENET, *BASIC_FAMILIES) if width >= MOBILENET_WIDTH else BASIC_FAMILIES


def aimed_trials(hours: float) -> int:
    """Return the trainings of stage 1 that a search of ``hours`` aims at: 12 for half an hour, 22 for 3, 30 for 8."""
    return max(LEAST_TRIALS, min(MOST_TRIALS, round(TRIALS_AT * math.pow(hours / TRIALS_HOURS, TRIALS_POWER))))


def share_s(asked: Asked, share: float) -> float:
    """Return the seconds that a stage has for its trials."""
    return max(60.0, 3600 * asked.hours * share - START_S)


def hours_for(trials: int, trial_s: float) -> float:
    """Return the hours of a search that has time for so many trainings in stage 1."""
    return (trials * trial_s + START_S) / STRUCTURAL_SHARE / 3600


def choose_scale(
    facts: DataFacts, device: DeviceFacts, asked: Asked, cost: Cost, anchor_scale: Callable[[int], float]
) -> Scale:
    """Return the largest scale at which the hours are enough for :func:`aimed_trials` trainings, by their mean time.

    Within ``ROOM`` they may be enough for fewer.

    Kinds of detectors that the smallest studies leave out are taken in where their time allows. With a limit for the
    latency, the thinnest detector at the largest input size is likely to keep it.

    Args:
        facts: The data.
        device: The device.
        asked: Hours and limit.
        cost: Predicts times.
        anchor_scale: Returns the anchors' edge in strides for a largest long edge.
    """
    aim_s = share_s(asked, STRUCTURAL_SHARE) / aimed_trials(asked.hours)
    room = ROOM * least_edge(facts)
    found: Scale | None = None
    for rung in rungs(facts, device.kind):
        space, reasons = space_at(facts, rung, anchor_scale(rung.edge))
        if found is not None and asked.max_latency_ms is not None:
            thin = replace(baselines_of(space)[0], input_size=parse_input_size(space.input_sizes[-1]))
            if cost.latency_ms(thin) > asked.max_latency_ms:
                break
        training_s = cost.mean_training_s(space)
        trial_s = cost.trial_s(training_s)
        limit_s = aim_s * (TOLERATED if rung.edge <= room else 1.0)
        if found is not None and trial_s > limit_s:
            break
        found = Scale(
            rung=rung, space=space, reasons=reasons, training_s=training_s, trial_s=trial_s, cheap=trial_s <= limit_s
        )
    assert found is not None
    return _with_dear_kinds(found, cost, aim_s)


def _with_dear_kinds(scale: Scale, cost: Cost, aim_s: float) -> Scale:
    """Return ``scale`` with further kinds of detectors, the cheapest first, as far as the time of a training allows.

    The mean training takes at most ``DEARER`` times its share. The largest of a kind takes at most ``DEAR`` times that
    share, or hardly more than the largest of ``scale``, which has its size and width.
    """
    space, largest = scale.space, baselines_of(scale.space)[-1]
    longest_s = max(DEAR * aim_s, DEARER * cost.trial_s(cost.training_s(largest)))

    def with_kind(space: StructuralSpace, key: str, kinds: tuple[str, ...], of_kind: DetectorSpec) -> StructuralSpace:
        with_it = StructuralSpace(**{**space.model_dump(), key: kinds})
        fits = cost.trial_s(cost.training_s(of_kind)) <= longest_s
        return with_it if fits and cost.trial_s(cost.mean_training_s(with_it)) <= DEARER * aim_s else space

    for family in DEAR_FAMILIES:
        backbone = BackboneSpec(family=family, width=scale.rung.width)
        space = with_kind(space, "backbones", (*space.backbones, family), replace(largest, backbone=backbone))
    cascade = CascadeHeadSpec(stages=3, width=space.head_widths[-1])
    space = with_kind(space, "heads", (*space.heads, "cascade3"), replace(largest, head=cascade))
    c4 = replace(largest, neck=None, head=FcHeadSpec(width=None))
    space = with_kind(space, "necks", ("c4", "fpn"), c4)
    training_s = cost.mean_training_s(space)
    left_out = [family for family in DEAR_FAMILIES if family not in space.backbones]
    limit = "would take too much of the hours at this input size"
    narrow = [] if MOBILENET in space.backbones else [f"without {MOBILENET}, which learnt nothing at such widths"]
    dear = [f"without {', '.join(left_out)}: {'each' if left_out[1:] else 'it'} {limit}"] if left_out else []
    without_c4 = f"without c4, whose last stage runs on every RoI: it {limit}"
    reasons = {
        **scale.reasons,
        "backbones": "; ".join([*narrow, *dear]) or "all: each fits into the hours",
        "necks": "both fit into the hours" if "c4" in space.necks else without_c4,
        "heads": "all that fit into the hours" if "cascade3" in space.heads else f"without cascade3: it {limit}",
    }
    return replace(scale, space=space, reasons=reasons, training_s=training_s, trial_s=cost.trial_s(training_s))


def space_at(facts: DataFacts, rung: Rung, anchor_scale: float) -> tuple[StructuralSpace, dict[str, str]]:
    """Return the structural space of a size of study with the cheaper kinds of detectors, and reasons by key."""
    sizes = choose_sizes(facts, rung.edge)
    low, high = choose_min_levels(facts, rung.edge), choose_max_levels(facts, rung.edge, anchor_scale)
    widths, channels, head_widths = widths_of(rung.width)
    space = StructuralSpace(
        input_sizes=sizes.value,
        backbones=basic_families(rung.width),
        backbone_widths=widths,
        necks=("fpn",),
        neck_min_levels=low.value,
        neck_max_levels=high.value,
        neck_channels=channels,
        rpns=("rpn", "ga"),
        heads=("retina", "fc", "cascade2"),
        head_widths=head_widths,
    )
    reasons = {
        "input_sizes": sizes.because,
        "backbone_widths": f"up to {rung.width} at {rung.edge} px; 64 is the classic ResNet",
        "neck_min_levels": low.because,
        "neck_max_levels": high.because,
        "neck_channels": "up to 4 times the base width, as in the classic networks",
        "head_widths": "up to 16 times the base width, likewise",
    }
    return space, reasons


def baselines_of(space: StructuralSpace) -> list[DetectorSpec]:
    """Return a small, a middle and a large Faster R-CNN of the space, cheapest first.

    The large one is the R50-FPN at the study's own scale, which the paper compares with, if the space has ResNet-50.
    """
    deep = "resnet50" if "resnet50" in space.backbones else "resnet34"
    sizes, widths = space.input_sizes, space.backbone_widths
    low, high, middle = space.neck_min_levels[0], space.neck_max_levels[-1], sizes[len(sizes) // 2]
    return [
        _faster_rcnn(space, 0, sizes[0], BackboneSpec(family="resnet18", width=widths[0]), (low, BACKBONE_TOP)),
        _faster_rcnn(space, -1, middle, BackboneSpec(family="resnet18", width=widths[-1]), (low, BACKBONE_TOP)),
        _faster_rcnn(space, -1, sizes[-1], BackboneSpec(family=deep, width=widths[-1]), (low, high)),
    ]


def _faster_rcnn(
    space: StructuralSpace, place: int, size: str, backbone: BackboneSpec, levels: tuple[int, int]
) -> DetectorSpec:
    """Return a Faster R-CNN with the widths of pyramid and head at ``place`` in the space's lists."""
    channels, width = space.neck_channels[place], space.head_widths[place]
    extra = "pool" if levels[1] > BACKBONE_TOP else None
    return DetectorSpec(
        input_size=parse_input_size(size),
        backbone=backbone,
        neck=NeckSpec(min_level=levels[0], max_level=levels[1], channels=channels, extra=extra),
        rpn=RpnSpec(),
        head=FcHeadSpec(width=width),
    )


def choose_baselines(space: StructuralSpace) -> Chosen[tuple[str, ...]]:
    """Return :func:`baselines_of` as strings."""
    because = "a small, a middle and a large Faster R-CNN: trained first, and what the front is compared with"
    return Chosen(tuple(encode(spec) for spec in baselines_of(space)), because)


def choose_trials(asked: Asked, share: float, trial_s: float) -> Chosen[int]:
    """Return the trainings that fit into a stage's share of the hours, within ``LEAST_TRIALS`` and ``MOST_TRIALS``."""
    fit = int(share_s(asked, share) / trial_s)
    each = f"one every {trial_s:.0f} s, by all workers"
    if fit < LEAST_TRIALS:
        return Chosen(LEAST_TRIALS, f"fewer are no search; {each}, {share:.0%} of the hours are enough for {fit}")
    return Chosen(min(MOST_TRIALS, fit), f"{share:.0%} of the hours, {each}")


def choose_parents(trials: int) -> Chosen[int]:
    """Return the structures that stage 2 searches inside: 3 if each gets 8 trainings, else 2; a choice.

    Measured studies have 2 parents for 6 to 16 trainings and 3 for 40.
    """
    parents = 3 if trials >= 24 else 2
    return Chosen(parents, f"of the front of stage 1; each gets about {trials // parents} trainings")
