"""The whole page of a study."""

from __future__ import annotations

from collections.abc import Sequence

from smnas_optuna.page import Html, element, isolated, page, tiles
from smnas_optuna.report.figures.front_figure import different_runs
from smnas_optuna.report.study_page.front_section import choice_section, front_section
from smnas_optuna.report.study_page.known import Known
from smnas_optuna.report.study_page.look import script, style
from smnas_optuna.report.study_page.panel import panel
from smnas_optuna.report.study_page.panel_sections import panel_sections
from smnas_optuna.report.study_page.points import PagePoint
from smnas_optuna.report.study_page.search_section import search_section
from smnas_optuna.report.summary import Summary, describe_data
from smnas_optuna.report.tables import APART, counts_line, short

RELOAD_SECONDS = 10
PARTS = {"front": "The front", "detectors": "The detectors", "search": "The search"}


def study_page(
    summary: Summary,
    points: Sequence[PagePoint],
    known: Sequence[tuple[PagePoint, Known]],
    images: Html,
    *,
    watched: bool = False,
) -> Html:
    """Return the page.

    Args:
        summary: The study.
        points: Its trained detectors.
        known: Those with a panel, and what is known of each.
        images: Validation images, hidden, that the panels show.
        watched: True if the page is written again and again, so that it reloads itself.
    """
    panels = [panel(point, *panel_sections(point, each)) for point, each in known]
    return page(
        f"Report of {summary.name}",
        _head(summary, has_panels=bool(panels)),
        front_section(points, summary),
        choice_section([point for point, _ in known], panels) if panels else Html(),
        search_section(summary),
        images,
        element("div", id="tip", role="tooltip", hidden=""),
        *((element("div", id="reload", data_seconds=RELOAD_SECONDS, hidden=""),) if watched else ()),
        style=style(),
        script=script(),
    )


def _head(summary: Summary, *, has_panels: bool) -> Html:
    links = (element("a", title, href=f"#{name}") for name, title in PARTS.items() if name != "detectors" or has_panels)
    about = (describe_data(summary), summary.device_name)
    notes = [text for text in (different_runs(summary), APART if summary.apart else "") if text]
    return element(
        "header",
        element("h1", "Report of ", isolated(summary.name)),
        element("p", isolated("; ".join(filter(None, about)), longest=400), class_="soft"),
        element("p", isolated(counts_line(summary), longest=400), class_="soft"),
        tiles(_facts(summary)),
        *(element("p", note, class_="card warned") for note in notes),
        element("nav", *links, aria_label="Parts of this page"),
    )


def _facts(summary: Summary) -> list[tuple[str, str]]:
    front, counts = summary.front, summary.counts
    facts = [("trained", f"{counts['complete']:,}"), ("on the front", f"{len(front):,}")]
    if front:
        facts.append(("fastest", f"{short(front[0].latency_ms)} ms"))
        facts.append(("most accurate, AP x100", f"{100 * (front[-1].ap or 0.0):.1f}"))
    if summary.baseline_hypervolume and front:
        gain = summary.hypervolumes["all"] / summary.baseline_hypervolume - 1
        facts.append(("hypervolume over the baselines", f"{100 * gain:+.0f} %"))
    return facts
