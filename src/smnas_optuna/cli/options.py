"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.paths import at_home

if TYPE_CHECKING:
    from smnas_optuna.study.record import StageName


class Device(StrEnum):
    """Device that trains and measures."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class BenchmarkRuntime(StrEnum):
    """Execution of our detectors."""

    eager = "eager"
    graph = "graph"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


class FileRuntime(StrEnum):
    """Execution of exported files by a stopwatch."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"
    cuda = "cuda"
    tensorrt = "tensorrt"


class ResultsOn(StrEnum):
    """Images that given detections are in."""

    val = "val"
    test = "test"


class SearchedStage(StrEnum):
    """Stage of a search: combinations of modules, or the insides of modules."""

    structural = "structural"
    modular = "modular"


class FrontOf(StrEnum):
    """Stage whose front is shown."""

    structural = "structural"
    modular = "modular"
    all = "all"


STAGE_OF: dict[FrontOf, StageName | None] = {
    FrontOf.structural: "structural",
    FrontOf.modular: "modular",
    FrontOf.all: None,
}


class Format(StrEnum):
    """Output format of a front."""

    table = "table"
    csv = "csv"
    json = "json"


def home(path: Path | None) -> Path | None:
    """Return a path of the command line with the home folder in the place of ``~``; a callback of options.

    Raises:
        FileError: If there is no such user.
    """
    return None if path is None else at_home(path)


def _homes(paths: list[Path] | None) -> list[Path] | None:
    return None if paths is None else [at_home(path) for path in paths]


def _checked(study_dir: Path) -> Path:
    from smnas_optuna.config import check_study_dir

    study_dir = at_home(study_dir)
    check_study_dir(study_dir)
    return study_dir


StudyDir = Annotated[
    Path, typer.Argument(metavar="STUDY_DIR", help="Study folder, which holds study.toml.", callback=_checked)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder of the data set.",
        show_default="that of the last run, or STUDY_DIR/data",
        callback=home,
    ),
]

PageFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        help="File or folder of the page.",
        show_default="in STUDY_DIR/report",
        callback=home,
    ),
]

Trials = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Budget: number of architectures to train, earlier runs included.",
        show_default="that of study.toml",
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Device to use; auto takes a CUDA GPU if there is one.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Train on the nodes of this Ray cluster: auto, HOST:PORT or ray://HOST:PORT.",
        show_default="on this machine",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of worker processes; with --ray that of trainings in flight.",
        show_default="one per visible GPU; without a GPU one per CPU core, up to 4",
    ),
]
Parents = Annotated[
    int | None,
    typer.Option(
        "--parents",
        metavar="K",
        min=1,
        help="Number of structures to search inside, chosen along the structural front.",
        show_default="that of study.toml",
    ),
]
ParentArchs = Annotated[
    list[str] | None,
    typer.Option("--parent", metavar="ARCH", help="Structure to search inside, instead of chosen ones; repeatable."),
]
WarmStart = Annotated[
    list[Path] | None,
    typer.Option(
        "--warm-start",
        metavar="STUDY_DIR",
        help="Other study whose trainings teach the surrogate what gives AP, on whatever data; repeatable.",
        callback=_homes,
    ),
]
NoPruning = Annotated[
    bool,
    typer.Option("--no-pruning", help="Turn partial-order pruning and early stopping off."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Continue although data, recipe or device changed; affected trials are marked."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything and print the expected time, memory and disk space; train nothing."
    ),
]
