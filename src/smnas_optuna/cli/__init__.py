"""``smnas``: thin commands, and the only place that prints.

Heavy modules are imported by the command that needs them: ``smnas --help`` must not wait for torch.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from smnas_optuna import __version__
from smnas_optuna.cli.data_commands import check_data
from smnas_optuna.cli.result_commands import benchmark, dashboard, doctor, front
from smnas_optuna.cli.search_commands import modular, retime, structural, worker
from smnas_optuna.cli.verify_commands import verify
from smnas_optuna.cli.worker_commands import work
from smnas_optuna.errors import SmnasError

app = typer.Typer(
    help="Search for object detectors that are fast on your device and accurate on your data (SM-NAS on Optuna).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (structural, modular, worker, front, retime, verify, dashboard, doctor, benchmark):
    app.command()(command)
app.command(hidden=True)(work)
data_app = typer.Typer(help="Check data sets.", no_args_is_help=True)
data_app.command("check")(check_data)
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; a user's error is one message on standard error and exit status 1.

    Args:
        arguments: Without the program's name; those of the process by default.
    """
    try:
        app(arguments, prog_name="smnas")
    except SmnasError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
