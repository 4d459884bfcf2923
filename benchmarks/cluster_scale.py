"""One driver and many simulated trainers: how many trainings a second it can begin and end, and what it holds.

    OMP_NUM_THREADS=1 python benchmarks/cluster_scale.py [--sizes 1000 5000] [--workers 60] [--trials 60]
        [--output benchmarks/cluster_scale.json]

A study of each size is filled with trials as a search leaves them, in SQLite on disk. Then as many threads as there are
workers ask for architectures as ``smnas structural --ray`` does, with the baton, the claims, the children, the records
and the tidying of a search; a training is a sleep, and nothing is timed. The threads begin one after the other, and
then each has a training in flight all the time. Printed are trials a second once all are in flight, processor time a
trial, memory and the size of the database. With ``N`` workers and trainings of ``T`` minutes a driver must end
``N / 60 T`` trials a second. The defaults take about five minutes; one core is enough.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import optuna
from bookkeeping import SETTINGS, SPACE, attributes, filled_folder
from common import command_line, markdown_table

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.cluster.baton import Baton
from smnas_optuna.engine.durable import write_json
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.objective import Objective
from smnas_optuna.search.stage import Stage
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.database import DATABASE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from smnas_optuna.study.settled import num_trained
from smnas_optuna.workers.crew import open_crew
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock


class Simulation:
    """A driver whose trainings are sleeps.

    Args:
        folder: A filled study.
        workers: Number of trainings in flight.
        trials: Number of trials that are timed once all are in flight.
    """

    def __init__(self, folder: StudyFolder, workers: int, trials: int) -> None:
        self.folder, self.workers, self.trials = folder, workers, trials
        self.study, self.baton = folder.load("structural"), Baton(MeasurementLock())
        self.study.sampler = build_sampler(SETTINGS.search, SPACE, num_trials=len(read_records(self.study)))
        self.stop, self.chance = StopRequest(), random.Random(0)
        self.in_flight = self.ended = 0
        self.all_in_flight = threading.Event()
        self.done = threading.Event()

    def run(self) -> dict[str, float]:
        """Return the figures."""
        threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.workers)]
        before = time.perf_counter()
        for thread in threads:
            thread.start()
        self.all_in_flight.wait()
        filled_s, wall, cpu = time.perf_counter() - before, time.perf_counter(), time.process_time()
        self.done.wait()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.stop.ask(15)
        for thread in threads:
            thread.join()
        return {
            "first_trainings_s": round(filled_s, 1),
            "trials_per_s": round(self.trials / wall, 2),
            "cpu_s_per_trial": round(cpu / self.trials, 4),
            "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "database_mib": round((self.folder.path / DATABASE).stat().st_size / 2**20, 1),
        }

    def _ask(self) -> None:
        crew = open_crew(self.study, self.folder)
        session = SimpleNamespace(folder=self.folder, settings=SETTINGS)
        objective = Objective(cast("Session", session), crew, limits=Limits())
        try:
            with self.baton.held(), crew.registered():
                search(
                    self.study,
                    Stage(space=SPACE),
                    self._evaluate,
                    budget=num_trained(read_records(self.study)) + 10**6,
                    crew=crew,
                    listener=Listener(),
                    stop=self.stop,
                    limits=Limits(),
                    after_trial=objective.tidy,
                )
        except Interrupted:
            pass

    def _evaluate(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        values, attrs = attributes(spec, self.chance)
        store_attrs(trial, {name: attrs[name] for name in list(attrs)[4:13]})
        self.folder.make_run(encode(spec))
        self.in_flight += 1
        if self.in_flight == self.workers:
            self.all_in_flight.set()
        with self.baton.passed_on():
            self.all_in_flight.wait()  # the first ones train until the last one has begun
        self.stop.check()
        self.in_flight -= 1
        self.ended += 1
        if self.ended == self.trials:
            self.done.set()
        return Evaluation(latency_ms=values[0], ap=values[1], attrs={name: attrs[name] for name in list(attrs)[13:]})


def main() -> None:
    """Fill studies, simulate in each, print the table, and write the JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--workers", type=int, default=60)
    parser.add_argument("--trials", type=int, default=60, help="trials that are timed at each size")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/cluster_scale.json"))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[str, Any] = {"optuna": optuna.__version__, "workers": arguments.workers, "cores": os.cpu_count()}
    found |= {"trials": arguments.trials, "sizes": {}}
    for size in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory() as name:
            found["sizes"][str(size)] = Simulation(
                filled_folder(Path(name), size), arguments.workers, arguments.trials
            ).run()
        print(f"{size}: {found['sizes'][str(size)]}", flush=True)
        write_json(arguments.output, found)
    names = list(next(iter(found["sizes"].values())))
    rows = [[size, *(str(each[name]) for name in names)] for size, each in found["sizes"].items()]
    print("\n" + markdown_table(["trials before", *names], rows))


if __name__ == "__main__":
    main()
