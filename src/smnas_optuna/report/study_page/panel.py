"""The panel of a detector: what is known of it."""

from __future__ import annotations

from smnas_optuna.page import Html, element, tiles
from smnas_optuna.report.study_page.points import PagePoint
from smnas_optuna.report.tables import latency_text, short
from smnas_optuna.report.uncertainty import in_brackets, interval_of


def panel(point: PagePoint, *sections: Html) -> Html:
    """Return the panel of ``point``: its numbers, and ``sections`` on what else is known."""
    record, metrics = point.record, point.metrics
    return element(
        "article",
        element("h3", point.title),
        element("p", f"{point.origin}; trial {record.number} of {record.study}", class_="soft"),
        element("p", point.words),
        element("p", element("code", point.arch)),
        _numbers(point),
        *sections,
        id=point.anchor,
        class_="panel card",
        data_arch=point.arch,
        data_kind=point.kind,
        data_title=point.title,
        data_words=point.words,
        data_ms=f"{point.ms:.6g}",
        data_ap=f"{point.ap:.6g}",
        data_ap50=_times_100(metrics.get("ap50"), ""),
        data_params=record.num_params or "",
        data_macs=record.multiply_adds or "",
    )


def _numbers(point: PagePoint) -> Html:
    record, metrics = point.record, point.metrics
    names = {"ap50": "AP50", "ap75": "AP75", "ap_small": "AP small", "ap_medium": "AP medium", "ap_large": "AP large"}
    interval = in_brackets(interval_of(metrics))
    facts = [(f"AP x100{interval}", f"{point.ap:.1f}")]
    facts += [(title, _times_100(metrics[name])) for name, title in names.items() if metrics.get(name) is not None]
    facts.append(("latency, ms", latency_text(record)))
    facts += [("parameters, M", short(record.num_params, 1e6))] if record.num_params else []
    facts += [("multiply-adds, G", short(record.multiply_adds, 1e9))] if record.multiply_adds else []
    return tiles(facts)


def _times_100(share: float | None, unknown: str = "-") -> str:
    return unknown if share is None else f"{100 * share:.1f}"
