"""The panel of a detector: what is known of it."""

from __future__ import annotations

from smnas_optuna.page import Html, element, table
from smnas_optuna.report.study_page.points import PagePoint
from smnas_optuna.report.tables import latency_text, short


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
    head = ("", "AP", "AP50", "AP75", "small", "medium", "large", "ms", "params (M)", "GMACs")
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    row = [
        "search",
        *(_times_100(point.record.ap if name == "ap" else metrics.get(name)) for name in names),
        latency_text(record),
        short(record.num_params, 1e6),
        short(record.multiply_adds, 1e9),
    ]
    return table("AP x100 on the validation images; small, medium and large as in COCO", head, [row])


def _times_100(share: float | None, unknown: str = "-") -> str:
    return unknown if share is None else f"{100 * share:.1f}"
