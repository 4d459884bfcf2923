"""``smnas``: thin commands, and the only place that prints.

Heavy modules are imported by the command that needs them: ``smnas --help`` must not wait for torch.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from smnas_optuna import __version__
from smnas_optuna.cli.data_commands import check_data, look_at_data
from smnas_optuna.cli.ending import exit_status, refuse_long_arguments
from smnas_optuna.cli.evaluate_command import evaluate
from smnas_optuna.cli.export_command import export
from smnas_optuna.cli.init_command import init
from smnas_optuna.cli.predict_command import predict
from smnas_optuna.cli.report_command import report
from smnas_optuna.cli.result_commands import benchmark, dashboard, doctor, front
from smnas_optuna.cli.search_command import search
from smnas_optuna.cli.search_commands import modular, retime, structural, worker
from smnas_optuna.cli.stopwatch_command import stopwatch
from smnas_optuna.cli.train_command import train
from smnas_optuna.cli.verify_commands import verify
from smnas_optuna.cli.worker_commands import work
from smnas_optuna.errors import StudyError

app = typer.Typer(
    help="Search for object detectors that are fast on your device and accurate on your data (SM-NAS on Optuna).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
STEPS = (init, search, structural, modular, worker, front, report, retime, verify, train, evaluate, export, predict)
"""Commands in the order in which they are used."""
for command in (*STEPS, dashboard, doctor, benchmark):
    app.command()(command)
app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    stopwatch
)
app.command(hidden=True)(work)
data_app = typer.Typer(help="Check data sets, and look at them.", no_args_is_help=True)
data_app.command("check")(check_data)
data_app.command("look")(look_at_data)
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def check_platform(platform: str) -> None:
    """Check that this package works on ``platform``.

    Raises:
        StudyError: If it is Windows, whose locks and signals are others.
    """
    if platform == "win32":
        raise StudyError(
            "smnas does not run on Windows", fix="use Linux, for example in WSL 2, with the study inside it"
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; a user's error is one message on standard error and exit status 1.

    Args:
        arguments: Without the program's name; those of the process by default.
    """

    def run() -> None:
        check_platform(sys.platform)
        from smnas_optuna.cli.process import prepare_process  # its limits of files are Unix's

        if arguments is None:
            prepare_process()
        if given[:1] != [work.__name__]:  # the supervisor's own, with as many architectures as there are
            refuse_long_arguments(given)
        app(given, prog_name="smnas")

    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(exit_status(run))
