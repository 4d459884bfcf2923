from __future__ import annotations

from dataclasses import replace

import pytest

from smnas_optuna.report.dashboard.notes import as_markdown, study_note, trial_note
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.summary import summarize

from ..report_studies import full_study


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("FPN p2..p5, a 2-FC head (wide)", "FPN p2..p5, a 2-FC head (wide)"),
        ("<img src=x onerror=alert(1)>", r"\<img src\=x onerror\=alert(1)\>"),
        ("[a](javascript:alert(1))", r"\[a\](javascript\:alert(1))"),
        ("a\n# b", "a\N{REPLACEMENT CHARACTER}\\# b"),
        ("https://evil.example www.evil.example", r"https\://evil.example www\.evil.example"),
        ("$x$ `y` &lt; \\<", r"\$x\$ \`y\` \&lt; \\\<"),
        ("\u202eabc", "\N{REPLACEMENT CHARACTER}abc"),
    ],
)
def test_text_is_text(text: str, markdown: str) -> None:
    assert as_markdown(text) == markdown


def test_a_note_says_what_came_of_a_trial() -> None:
    summary = summarize(full_study())
    points = {point.record.number: point for point in page_points(summary, None)}
    record = replace(summary.records[2], ap_by_epoch={4: 0.0625, 2: 0.03})

    words, came, rungs = trial_note(record, points[2]).split("\n\n")
    assert words.startswith("input 128x96 px, resnet18 with base width 8")
    assert came == r"1 · AP 6.2 at 3.50 ms\: stage 1, on the front"
    assert rungs == r"AP x100 at the rungs\: 3.0 after epoch 2, 6.2 after epoch 4"


def test_a_reason_from_elsewhere_is_text_in_a_note() -> None:
    failed = replace(summarize(full_study()).records[6], reason="<script>alert(1)</script>: no")

    assert trial_note(failed, None).endswith(r"Not trained to the end: failed\: \<script\>alert(1)\</script\>")


def test_the_note_of_a_study_has_its_front() -> None:
    summary = summarize(full_study())
    note = study_note(summary, page_points(summary, None))

    rows = [line for line in note.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[1:3] for row in rows[2:]] == [["3.50", "6.2"], ["12.2", "20.0"], ["140", "50.0"]]
