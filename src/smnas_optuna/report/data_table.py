"""What the data of a study are like, as a short table and lines for people."""

from __future__ import annotations

from rich.console import Console

from smnas_optuna.overview.look import Overview
from smnas_optuna.overview.statistics import low_middle_high
from smnas_optuna.report.tables import new_table, print_tables

NARROWEST = 60
"""Columns of text that the table needs."""


def print_overview(overview: Overview, console: Console) -> None:
    """Print a table of the splits, and a line for each input size and for everything suspicious."""
    table = new_table(f"Data of {overview.study}, read as {overview.read_as}", "split")
    for header in ("images", "objects", "objects\nper image", "edge (px)", "without\nobjects", "classes"):
        table.add_column(header, justify="right", no_wrap=True)
    for split, objects in overview.objects.items():
        table.add_row(
            split,
            f"{len(objects.sizes):,}",
            f"{len(objects.boxes):,}",
            f"{low_middle_high(objects.per_image)[1]:g}",
            f"{low_middle_high(objects.lengths)[1]:.0f}",
            f"{int((objects.per_image == 0).sum()):,}",
            f"{int((objects.per_class > 0).sum()):,} of {objects.num_classes:,}",
        )
    lines = [
        f"at {each.name}: objects have a median edge of {each.median:.0f} px, {100 * each.small:.0f} % are below 8 px"
        for each in overview.sizes
    ]
    for finding in overview.findings:
        total = f"{finding.count:,}" if finding.of is None else f"{finding.count:,} of {finding.of:,}"
        lines.append(f"{finding.what}: {total}")
    if overview.notes:
        lines.append(f"notes of smnas data check: {len(overview.notes)}, on the page")
    print_tables([table], lines, console, narrowest=NARROWEST)
