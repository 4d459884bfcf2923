"""What further trainings came to, as a picture beside the front that the search found."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from smnas_optuna.report.figure import (
    BASELINE_COLOUR,
    FONT_SIZE,
    FRONT_COLOUR,
    KEY_SIZE,
    LETTER,
    MARK,
    MODULAR_COLOUR,
    USUAL_NAME,
    grid_axes,
    set_limits,
    short_name,
    write_beside,
    write_numbers,
)
from smnas_optuna.report.summary import Summary, name_device
from smnas_optuna.verify.verdict import Verified
from smnas_optuna.verify.verification import Verification

KEY_NUMBERS = 31
"""Letters of the numbers in a line of the key, beyond those of the front's."""
ASIDE = 8 / 72
"""How far the test images' marks stand to the right of the validation images', inches: error bars must not overlap."""


def save_verification_png(verification: Verification, summary: Summary, path: Path) -> None:
    """Write :func:`draw_verification` to ``path`` as PNG, whatever its suffix."""
    draw_verification(verification, summary).savefig(path, format="png", dpi=200)


def draw_verification(verification: Verification, summary: Summary) -> Figure:
    """The front of the search as a pale step line, and the means of further trainings with error bars, numbered.

    Latency in ms to the right (lower is better), AP x100 upwards (higher is better). Error bars are one standard
    deviation over the seeds to either side. Nothing of pyplot is touched.
    """
    trained = [each for each in verification.verdict.verified if each.aps]
    longest = max((len(short_name(each.candidate.arch)) for each in trained), default=0) + KEY_NUMBERS
    width = 8.6 + LETTER * max(0, longest - USUAL_NAME) if trained else 6.0
    figure = Figure(figsize=(width, max(4.0, 1.2 + 0.165 * len(trained))), layout="constrained")
    axes = grid_axes(figure, f"latency on {name_device(verification.about['device'])} (ms, batch 1)")
    axes.set_ylabel("COCO AP x100", fontsize=FONT_SIZE)
    if not trained:
        axes.set_xticks([])
        axes.set_yticks([])
        text = "no training is finished yet"
        axes.text(0.5, 0.5, text, ha="center", fontsize=FONT_SIZE + 1, color="0.35", transform=axes.transAxes)
        return figure
    _set_limits(axes, trained, summary)
    _draw_search(axes, trained, summary, verification.search_epochs)
    _draw_means(axes, trained, verification)
    # Above the axes, where it hides no point.
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize=KEY_SIZE + 0.5, frameon=False)
    _write_key(axes, trained, verification)
    latencies, means = [each.candidate.latency_ms for each in trained], [100 * (each.mean or 0.0) for each in trained]
    write_numbers(axes, (latencies, means), FRONT_COLOUR)
    return figure


def _set_limits(axes: Axes, trained: list[Verified], summary: Summary) -> None:
    """Room for all points, and for the ends of the error bars."""
    latencies = [each.candidate.latency_ms for each in trained] + [record.latency_ms or 0.0 for record in summary.front]
    aps = [each.candidate.search_ap for each in trained] + [record.ap or 0.0 for record in summary.front]
    for each in trained:
        for mean, deviation in ((each.mean, each.deviation), (each.test_mean, each.test_deviation)):
            if mean is not None:
                aps += [mean - (deviation or 0.0), mean + (deviation or 0.0)]
    set_limits(axes, latencies, [100 * ap for ap in aps])


def _draw_search(axes: Axes, trained: list[Verified], summary: Summary, epochs: int) -> None:
    latencies = [record.latency_ms or 0.0 for record in summary.front]
    aps = [100 * (record.ap or 0.0) for record in summary.front]
    if latencies:
        # Whoever allows more time still gets the best AP so far: the line goes on to the right.
        steps = ([*latencies, axes.get_xlim()[1]], [*aps, aps[-1]])
        axes.plot(*steps, drawstyle="steps-post", color="0.6", ls="--", lw=0.9, label="front of the search", zorder=2)
    axes.plot(
        [each.candidate.latency_ms for each in trained],
        [100 * each.candidate.search_ap for each in trained],
        "o",
        mec="0.5",
        mfc="white",
        ms=4.5,
        mew=0.9,
        label=f"in the search: {epochs} epochs, one seed, validation",
        zorder=3,
    )


def _draw_means(axes: Axes, trained: list[Verified], verification: Verification) -> None:
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


def _write_key(axes: Axes, trained: list[Verified], verification: Verification) -> None:
    """The architectures line by line, beside the axes."""

    def with_deviation(mean: float | None, deviation: float | None) -> str:
        mean_text = "-" if mean is None else f"{100 * mean:.1f}"
        return f"{mean_text:>5}{'' if deviation is None else f' ± {100 * deviation:.1f}':<6}"

    test = f" {'test':<11}" if verification.has_test else ""
    lines = [f"{'':>2} {'ms':>6} {'search':>6} {'validation':<11}{test}  architecture"]
    for number, each in enumerate(trained, start=1):
        candidate = each.candidate
        test = f" {with_deviation(each.test_mean, each.test_deviation)}" if verification.has_test else ""
        lines.append(
            f"{number:>2} {candidate.latency_ms:>6.1f} {100 * candidate.search_ap:>6.1f} "
            f"{with_deviation(each.mean, each.deviation)}{test}  {short_name(candidate.arch)}"
        )
    write_beside(axes, lines)
