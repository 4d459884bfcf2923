"""Number of trainings that a search needs to find the front: samplers replayed on a table of a whole small space.

    OMP_NUM_THREADS=1 python benchmarks/search_efficiency.py [--table benchmarks/search_table/table.csv] [--seeds 20]
        [--output benchmarks/search_efficiency.json] [--rows NAME ...] [--partial]

The table is that of ``search_table.py``, with its ``study.toml`` and ``table.json`` beside it. Prints the share of the
maximal hypervolume after parts of the table's number of trainings, the mean over seeds and its standard error. Writes
the output, and a picture beside it. Only a training costs. No method gets baselines. ``efficiency/samplers.py`` lists
the methods.

With ``--rows`` only these methods are replayed, and the others are kept as the output has them.

A seed takes about 40 s of processor time without ``stock GP``, and 100 s with it, on the table of 324 architectures.
Most of the 40 s go to ours without own children, which asks thousands of times for known architectures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
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
    found = replay(table, arguments.rows or list(METHODS), stored_rows(parser, arguments, about), about)
    write_json(arguments.output, found)
    draw(table, curves_of(found)).savefig(arguments.output.with_suffix(".png"), dpi=200)
    print("\n" + as_text(table, found))


def replay(table: Table, names: Sequence[str], kept: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """The content of the output: ``names`` replayed, the others as in ``kept``, an earlier one; JSON values."""
    found: dict[str, Any] = {**about, "curves": dict(kept.get("curves", {}))}
    for name in names:
        start = time.perf_counter()
        runs = [METHODS[name](table, seed) for seed in range(about["seeds"])]
        print(f"{name}: {(time.perf_counter() - start) / len(runs):.1f} s a run", flush=True)
        curves = average(table, runs)
        found["curves"][name] = {
            "mean": [round(value, 5) for value in curves.mean],
            "standard_error": [round(value, 5) for value in curves.error],
        }
        if name == "ours":
            kept = {**kept, "pruning": describe_pruning(table, runs)}
    curves_by_name = curves_of(found)
    return {
        **found,
        "shares": {name: shares_at(table, each) for name, each in curves_by_name.items()},
        "checks": check(table, curves_by_name),
        "pruning": kept["pruning"],
    }


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

    Exits if the output does not have the other methods, or has them for another table, seeds or version.
    """
    if arguments.rows is None:
        return {}
    stored: dict[str, Any] = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    others = {name: stored[name] for name in about if name in stored}
    lacking = [name for name in METHODS if name not in (*arguments.rows, *stored.get("curves", {}))]
    if not stored:
        what = "there is no such file"
    elif others != about:
        what = "it is of another table, seeds or version"
    else:
        what = f"it lacks {', '.join(lacking)}" if lacking else ""
    if what:
        parser.error(f"--rows: {arguments.output} cannot give the other rows, {what}: replay all, without --rows")
    return stored


if __name__ == "__main__":
    main()
