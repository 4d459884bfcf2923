"""Choice of a trained detector on the command line: the same arguments and options for all commands that take one."""

from __future__ import annotations

from typing import Annotated

import typer

Arch = Annotated[
    str | None, typer.Argument(metavar="ARCH", help="Architecture, whose weights are kept.", show_default=False)
]
LatencyMs = Annotated[
    float | None,
    typer.Option(
        "--latency-ms", metavar="X", min=0, help="Take the most accurate front member within X ms of the study."
    ),
]
Knee = Annotated[bool, typer.Option("--knee", help="Take the front member behind which more latency buys least.")]
Best = Annotated[bool, typer.Option("--best", help="Take the most accurate front member, as without any choice.")]
TrainedName = Annotated[
    str | None, typer.Option("--trained", metavar="NAME", help="Take the finished training NAME of smnas train.")
]
