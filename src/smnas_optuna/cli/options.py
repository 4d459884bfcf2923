"""What the commands' arguments and options have in common."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smnas_optuna.study.record import StageName


class Device(StrEnum):
    """Where to train and measure."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class BenchmarkRuntime(StrEnum):
    """How our detectors are run."""

    eager = "eager"
    graph = "graph"
    both = "both"


class SearchedStage(StrEnum):
    """What is searched: combinations of modules, or the insides of modules."""

    structural = "structural"
    modular = "modular"


class FrontOf(StrEnum):
    """Whose front is shown."""

    structural = "structural"
    modular = "modular"
    all = "all"


STAGE_OF: dict[FrontOf, StageName | None] = {
    FrontOf.structural: "structural",
    FrontOf.modular: "modular",
    FrontOf.all: None,
}


class Format(StrEnum):
    """How a front is printed."""

    table = "table"
    csv = "csv"
    json = "json"


StudyDir = Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="Folder that holds study.toml.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder. [default: that of the last run, or STUDY_DIR/data]"),
]

Trials = Annotated[
    int | None,
    typer.Option(min=1, help="Architectures to train in all, earlier runs included. [default: study.toml's]"),
]
DeviceOption = Annotated[Device, typer.Option(help="Where to train and measure.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that train. [default: one a visible GPU, or one a core of the CPU, up to 4]"),
]
Parents = Annotated[
    int | None,
    typer.Option("--parents", metavar="K", min=1, help="Structures to search inside of. [default: study.toml's]"),
]
ParentArchs = Annotated[
    list[str] | None,
    typer.Option("--parent", metavar="ARCH", help="This structure, instead of chosen ones; repeatable."),
]
NoPruning = Annotated[
    bool, typer.Option("--no-pruning", help="Train all, and to the end, whatever known detectors say.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on with other data, recipe or device than before, and mark the trials.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it takes.")]
