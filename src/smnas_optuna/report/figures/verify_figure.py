"""The means of retrainings as a picture, beside the front that the search found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from smnas_optuna.report.figures.axes import (
    BASELINE_COLOUR,
    FONT_SIZE,
    FRONT_COLOUR,
    MARK,
    MODULAR_COLOUR,
    Points,
    points_of,
    say_empty,
    set_limits,
    steps,
    style_axes,
)
from smnas_optuna.report.figures.frame import TEXT_COLOUR, KeyRow, frame, new_axes, save_png, write_legend
from smnas_optuna.report.figures.front_figure import brief_name, title_of
from smnas_optuna.report.figures.labels import Label, label_points
from smnas_optuna.report.summary import Summary, describe_data, name_device
from smnas_optuna.report.tables import UNKNOWN, latency_text
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.verify.verdict import Verified
from smnas_optuna.verify.verification import Verification

ASIDE = 8 / 72
"""Distance of the test images' marks to the right of the validation images', inches: error bars must not overlap."""


def save_verification_png(verification: Verification, summary: Summary, path: Path) -> None:
    """Write :func:`draw_verification` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_verification(verification, summary), path)


def draw_verification(verification: Verification, summary: Summary) -> Figure:
    """Draw the front of the search as a pale step line, and the means of retrainings with error bars and labels.

    Latency in ms to the right (lower is better), AP x100 upwards (higher is better). Error bars are one standard
    deviation over the seeds to either side. A key below has the exact architectures. Nothing of pyplot is touched.
    """
    trained = [each for each in verification.verdict.verified if each.aps]
    axes = new_axes(len(trained))
    style_axes(axes, f"latency on {name_device(verification.about['device'])} (ms, batch 1)")
    axes.set_ylabel("COCO AP x100", fontsize=FONT_SIZE)
    title, lines = title_of("Verification", summary), [describe_data(summary)]
    if not trained:
        say_empty(axes, "no training is finished yet")
        return frame(axes, title=title, lines=lines)
    bars = [*_bars(trained), *_bars(trained, test=True)]
    searched = [each.candidate.record for each in trained]
    found = [points_of(searched), points_of(summary.front), *bars]
    set_limits(axes, ([x for xs, _ in found for x in xs], [y for _, ys in found for y in ys]))
    _draw_search(axes, searched, summary, verification.search_epochs)
    _draw_means(axes, trained, verification)
    write_legend(axes)
    means = [each.candidate.latency_ms for each in trained], [100 * (each.mean or 0.0) for each in trained]
    labels = [_label(number, each) for number, each in enumerate(trained, start=1)]
    before = points_of(searched)
    solid = [*_bars(trained), *(_aside(axes, bar) for bar in _bars(trained, test=True))]
    solid += [([x, x], [y, y]) for x, y in zip(*before, strict=True)]  # each is compared with its mean
    label_points(axes, means, labels, lines=[steps(axes, points_of(summary.front)), *solid], dots=before)
    return frame(axes, title=title, lines=lines, key=_key(trained, verification))


def _bars(trained: Sequence[Verified], *, test: bool = False) -> list[Points]:
    """Ends of each error bar; without a second seed both are the mean."""
    bars: list[Points] = []
    for each in trained:
        mean, deviation = (each.test_mean, each.test_deviation) if test else (each.mean, each.deviation)
        if mean is not None:
            ends = [100 * (mean + sign * (deviation or 0.0)) for sign in (-1, 1)]
            bars.append(([each.candidate.latency_ms] * 2, ends))
    return bars


def _aside(axes: Axes, bar: Points) -> Points:
    """Return an error bar of the test images where it is drawn, with the width of its mark. The limits are final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    places, half = axes.transData.transform(list(zip(*bar, strict=True))), figure.dpi * MARK / 72 / 2
    middle, (low, high) = places[0, 0] + figure.dpi * ASIDE, sorted(places[:, 1])
    ends = axes.transData.inverted().transform([(middle - half, low - half), (middle + half, high + half)])
    return ends[:, 0].tolist(), ends[:, 1].tolist()


def _draw_search(axes: Axes, searched: Sequence[TrialRecord], summary: Summary, epochs: int) -> None:
    front = steps(axes, points_of(summary.front))
    if front[0]:
        axes.plot(*front, drawstyle="steps-post", color="0.6", ls="--", lw=0.9, label="front of the search", zorder=2)
    label = f"in the search: {epochs} epochs, one seed, validation"
    axes.plot(*points_of(searched), "o", mec="0.5", mfc="white", ms=4.5, mew=0.9, label=label, zorder=3)


def _draw_means(axes: Axes, trained: Sequence[Verified], verification: Verification) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    most = max(len(each.aps) for each in trained)
    what = f"{verification.epochs} epochs, {'one seed' if most == 1 else f'mean of {most} seeds'}"
    bars = "" if most == 1 else " (bars: one standard deviation)"
    means = [(each.candidate.latency_ms, each.mean, each.deviation) for each in trained]
    tests = [(each.candidate.latency_ms, each.test_mean, each.test_deviation) for each in trained]
    aside = axes.transData + ScaledTranslation(ASIDE, 0, figure.dpi_scale_trans)
    for points, mark, colour, place, label in (
        (means, "o", FRONT_COLOUR, axes.transData, f"{what}, validation{bars}"),
        (tests, "^", MODULAR_COLOUR, aside, f"{what}, test"),
    ):
        known = [(latency, mean, deviation or 0.0) for latency, mean, deviation in points if mean is not None]
        if known:
            axes.errorbar(
                [latency for latency, _, _ in known],
                [100 * mean for _, mean, _ in known],
                [100 * deviation for _, _, deviation in known],
                fmt=mark,
                color=colour,
                ms=MARK,
                lw=1.2,
                capsize=2.5,
                label=label,
                zorder=4,
                transform=place,
            )
    baselines = [each for each in trained if each.candidate.baseline]
    if baselines:
        axes.plot(
            [each.candidate.latency_ms for each in baselines],
            [100 * (each.mean or 0.0) for each in baselines],
            "D",
            mfc="none",
            mec=BASELINE_COLOUR,
            mew=1.3,
            ms=8.5,
            label="baseline",
            zorder=3.5,
        )


def _label(number: int, each: Verified) -> Label:
    ap, latency = _with_deviation(each.mean, each.deviation), latency_text(each.candidate.record)
    long = f"{number}  AP {ap} at {latency} ms\n{brief_name(each.candidate.arch)}"
    return Label(wordings=[long, f"{number}  AP {ap}, {latency} ms", str(number)], colour=TEXT_COLOUR)


def _with_deviation(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return UNKNOWN
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def _key(trained: Sequence[Verified], verification: Verification) -> list[KeyRow]:
    """Rows of the means and the exact architectures, under a header."""
    test = f"  {'test':<11}" if verification.has_test else ""
    rows = [KeyRow(text=f"{'':>2}  {'ms':>5}  search  {'validation':<11}{test}  architecture", colour="0.35")]
    for number, each in enumerate(trained, start=1):
        candidate = each.candidate
        test = f"  {_with_deviation(each.test_mean, each.test_deviation):<11}" if verification.has_test else ""
        mean = _with_deviation(each.mean, each.deviation)
        start = f"{number:>2}  {latency_text(candidate.record):>5}  {100 * candidate.search_ap:>6.1f}  {mean:<11}{test}"
        colour = BASELINE_COLOUR if candidate.baseline else TEXT_COLOUR
        rows.append(KeyRow(text=f"{start}  {candidate.arch}", colour=colour))
    return rows
