"""Number of trainings that a search needs to find the front: samplers replayed on a table of a whole small space.

    OMP_NUM_THREADS=1 python benchmarks/search_efficiency.py [--table benchmarks/search_table/table.csv] [--seeds 20]
        [--output benchmarks/search_efficiency.json] [--partial]

The table is that of ``search_table.py``, with its ``study.toml`` beside it. Prints the share of the maximal hypervolume
after parts of the table's number of trainings, the mean over seeds and its standard error. Writes the output, and a
picture beside it. Only a training costs. No method gets baselines. ``efficiency/samplers.py`` lists the methods.

A seed takes about 40 s of processor time. Most of it goes to ours without own children, which asks thousands of times
for known architectures.
"""

from __future__ import annotations

import time
from pathlib import Path

import optuna
from common import command_line, require_two_seeds
from efficiency.curves import average, check, shares_at
from efficiency.pruning import describe_pruning
from efficiency.results import as_text, describe_table, draw
from efficiency.samplers import METHODS, STOCK_POPULATION, Run
from efficiency.table import describe_missing, read_table
from search_table_file import TABLE

from smnas_optuna.config import SearchSettings
from smnas_optuna.engine.durable import write_json


def main() -> None:
    """Replay every method on the table with every seed, print the results, and write the JSON and the picture."""
    parser = command_line(__doc__)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=20, help="2 at least")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/search_efficiency.json"))
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
    runs: dict[str, list[Run]] = {}
    for name, replay in METHODS.items():
        start = time.perf_counter()
        runs[name] = [replay(table, seed) for seed in range(arguments.seeds)]
        print(f"{name}: {(time.perf_counter() - start) / arguments.seeds:.1f} s a run", flush=True)
    curves = {name: average(table, each) for name, each in runs.items()}
    found = {
        "table": describe_table(table),
        "seeds": arguments.seeds,
        "optuna": optuna.__version__,
        "population": {"ours": SearchSettings().population, "stock": STOCK_POPULATION},
        "shares": {name: shares_at(table, each) for name, each in curves.items()},
        "checks": check(table, curves),
        "pruning": describe_pruning(table, runs["ours"]),
    }
    write_json(arguments.output, found)
    draw(table, curves).savefig(arguments.output.with_suffix(".png"), dpi=200)
    print("\n" + as_text(table, found))


if __name__ == "__main__":
    main()
