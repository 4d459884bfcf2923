"""Command that times exported detectors: ``smnas stopwatch``."""

from __future__ import annotations

import typer


def stopwatch(context: typer.Context) -> None:
    """Time one exported file against another, or serve as a stopwatch for another machine (`smnas stopwatch serve`)."""
    # Its options are those of ``python -m smnas_optuna.stopwatch``, which has to work where there is no typer.
    from smnas_optuna.stopwatch.command import main

    raise typer.Exit(main(context.args, program="smnas stopwatch"))
