"""Number of trainings that a search needs to find the front: samplers replayed on a table of a whole small space.

    OMP_NUM_THREADS=1 python benchmarks/search_efficiency.py [--table benchmarks/search_table/table.csv] [--seeds 20]
        [--output benchmarks/search_efficiency.json] [--rows NAME ...] [--partial]

The table is that of ``search_table.py``, with its ``study.toml`` and ``table.json`` beside it. Prints the share of the
maximal hypervolume after parts of the table's number of trainings, the mean over seeds and its standard error. Writes
the output, and a picture beside it. Only a training costs. No method gets baselines. ``efficiency/samplers.py`` lists
the methods.

The output is written after each method. With ``--rows`` only these methods are replayed, and the others are kept as the
output has them, so a replay that was stopped goes on with those that it lacks.

A seed takes about 45 s of processor time on the table of 324 architectures, 23 s of them for ``stock GP``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import optuna
from common import command_line, require_two_seeds
from efficiency.curves import Curves, average, check, shares_at
from efficiency.pruning import describe_pruning
from efficiency.results import as_text, describe_table, draw
from efficiency.samplers import METHODS, STOCK_POPULATION
from efficiency.table import Table, describe_missing, read_table
from search_table_file import TABLE

from smnas_optuna.config import SearchSettings
from smnas_optuna.engine.durable import write_json


def main() -> None:
    """Replay methods on the table with every seed, print the results, and write the JSON and the picture."""
    parser = command_line(__doc__)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=20, help="2 at least")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/search_efficiency.json"))
    parser.add_argument("--rows", nargs="+", metavar="NAME", choices=METHODS, help="replay these alone")
    parser.add_argument(
        "--partial", action="store_true", help="accept a table that is not complete: what it lacks leaves the space"
    )
    arguments = parser.parse_args()
    table = read_table(arguments.table)
    if missing := describe_missing(table):
        if not arguments.partial:
            parser.error(f"{arguments.table}: {missing}: continue with search_table.py, or try things with --partial")
        print(f"to try things out only: {missing}\n")
    require_two_seeds(parser, arguments.seeds)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    about = {
        "table": describe_table(table),
        "seeds": arguments.seeds,
        "optuna": optuna.__version__,
        "population": {"ours": SearchSettings().population, "stock": STOCK_POPULATION},
    }
    found = stored_rows(parser, arguments, about)
    for name in arguments.rows or METHODS:
        found = replay(table, name, found, about)
        write_json(arguments.output, found)
    draw(table, curves_of(found)).savefig(arguments.output.with_suffix(".png"), dpi=200)
    print("\n" + as_text(table, found))


def replay(table: Table, name: str, kept: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """The content of the output: method ``name`` replayed, the others as in ``kept``, an earlier one; JSON values."""
    start = time.perf_counter()
    runs = [METHODS[name](table, seed) for seed in range(about["seeds"])]
    print(f"{name}: {(time.perf_counter() - start) / len(runs):.1f} s a run", flush=True)
    curves = average(table, runs)
    rounded = {
        "mean": [round(value, 5) for value in curves.mean],
        "standard_error": [round(value, 5) for value in curves.error],
    }
    found = {**kept, **about, "curves": {**kept.get("curves", {}), name: rounded}}
    by_name = curves_of(found)
    found["shares"] = {name: shares_at(table, each) for name, each in by_name.items()}
    found["checks"] = check(table, by_name)
    if name == "ours":
        found["pruning"] = describe_pruning(table, runs)
    return found


def curves_of(found: dict[str, Any]) -> dict[str, Curves]:
    """The curves of the output, by method, in the order of ``METHODS``."""
    stored = found["curves"]
    return {
        name: Curves(mean=stored[name]["mean"], error=stored[name]["standard_error"])
        for name in METHODS
        if name in stored
    }


def stored_rows(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, about: dict[str, Any]
) -> dict[str, Any]:
    """What the output has, for ``--rows``; nothing without it.

    Exits if the output is of another table, seeds or version.
    """
    if arguments.rows is None or not arguments.output.exists():
        return {}
    stored: dict[str, Any] = json.loads(arguments.output.read_text())
    if {name: stored.get(name) for name in about} != about:
        parser.error(
            f"--rows: {arguments.output} cannot give the other rows, it is of another table, seeds or version: "
            f"replay all, without --rows"
        )
    return stored


if __name__ == "__main__":
    main()
