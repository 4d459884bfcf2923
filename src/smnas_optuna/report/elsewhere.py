"""The front of a study on a second device, as a table and as CSV."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from rich.console import Console

from smnas_optuna.report.files import write_text
from smnas_optuna.report.summary import name_device
from smnas_optuna.report.tables import NARROWEST, new_table, print_tables, short
from smnas_optuna.search.elsewhere import FrontElsewhere


def print_elsewhere(front: FrontElsewhere, console: Console) -> None:
    """Print all detectors that were timed, the members of the front on the second device marked."""
    table = new_table(f"Front on {name_device(front.device)}", "architecture")
    for heading in ("latency (ms)", "AP", "here (ms)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("front", no_wrap=True)
    for each in front.detectors:
        latency = each.latency
        interval = "" if latency.precise else f" ({short(latency.low_ms)}-{short(latency.high_ms)})"
        table.add_row(
            each.arch,
            f"{short(latency.ms)}{interval}",
            f"{100 * each.ap:.1f}",
            short(each.here_ms),
            "yes" if each.on_front else "no",
        )
    print_tables([table], [], console, narrowest=NARROWEST)


def elsewhere_csv(front: FrontElsewhere) -> str:
    """Return the same as CSV with a header: AP in 0..1, latencies in ms, ``front`` true or false."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arch", "latency_ms", "latency_low_ms", "latency_high_ms", "ap", "here_ms", "front"])
    for each in front.detectors:
        numbers = (each.latency.ms, each.latency.low_ms, each.latency.high_ms)
        row = [f"{number:.6g}" for number in numbers]
        writer.writerow([each.arch, *row, f"{each.ap:.6g}", f"{each.here_ms:.6g}", str(each.on_front).lower()])
    return out.getvalue()


def write_elsewhere(front: FrontElsewhere, folder: Path) -> Path:
    """Write ``front-<host>-<device>.csv`` into ``folder``, and return its path.

    Raises:
        StudyError: If it cannot be written.
    """
    device = re.sub(r"[^a-z0-9]+", "-", f"{front.host} {name_device(front.device)}".lower()).strip("-")[:80]
    return write_text(folder, f"front-{device}.csv", elsewhere_csv(front), "front")
