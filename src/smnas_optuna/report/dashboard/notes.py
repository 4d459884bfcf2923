"""Notes in Markdown on a study and its trials, in which names and reasons are text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from smnas_optuna.errors import shortened
from smnas_optuna.quote import printable_name
from smnas_optuna.report.study_page.endings import why_not_trained
from smnas_optuna.report.study_page.points import PagePoint, members_of, words_of
from smnas_optuna.report.summary import Summary
from smnas_optuna.report.tables import counts_line, latency_text
from smnas_optuna.study.record import TrialRecord

LONGEST = 300
"""Characters of a reason that are shown."""
_MEANING = re.compile(r"[\\`*_{}\[\]<>#|~$&!@:^=+]|(?<=www)\.", re.IGNORECASE)
"""What begins markup, a formula, HTML or a link, wherever it stands in a line."""


def as_markdown(text: str) -> str:
    """Return Markdown that shows ``text`` as it is, on one line: nothing of it is markup, a link or HTML."""
    return _MEANING.sub(r"\\\g<0>", printable_name(text))


def trial_note(record: TrialRecord, point: PagePoint | None) -> str:
    """Return the note of a trial: its architecture in words, what came of it, and its APs at the rungs.

    Args:
        record: The trial; its architecture is known.
        point: The same as a trained detector whose AP compares with the others; None if it is none.
    """
    lines = [as_markdown(words_of(str(record.arch)))]
    why = why_not_trained(record)
    if point is not None:
        lines.append(as_markdown(f"{point.title}: {point.origin}"))
    elif record.trained:
        ap = 100 * (record.ap or 0.0)
        lines.append(as_markdown(f"AP {ap:.1f} at {latency_text(record)} ms"))
    elif why is not None:
        lines.append(f"Not trained to the end: {as_markdown(shortened(why, LONGEST))}")
    if record.ap_by_epoch:
        aps = ", ".join(f"{100 * ap:.1f} after epoch {epoch}" for epoch, ap in sorted(record.ap_by_epoch.items()))
        lines.append(as_markdown(f"AP x100 at the rungs: {aps}"))
    return "\n\n".join(lines)


def study_note(summary: Summary, points: Sequence[PagePoint]) -> str:
    """Return the note of a study: the members of its front, fastest first."""
    members = members_of(points)
    rows = [
        f"| {point.name} | {as_markdown(latency_text(point.record))} | {point.ap:.1f} | {as_markdown(point.words)} |"
        for point in members
    ]
    head = ["| | ms | AP x100 | detector |", "| --- | --- | --- | --- |"]
    said = "Latencies are those that every command shows. `smnas report` writes a page to choose from."
    return "\n\n".join([as_markdown(counts_line(summary)), *(["\n".join([*head, *rows])] if rows else []), said])
