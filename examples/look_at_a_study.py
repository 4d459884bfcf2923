"""Look at a study: the front, what became of the trials, and the best detector for a latency.

    python examples/look_at_a_study.py STUDY_DIR [MAX_LATENCY_MS]

Takes a second or two, also while a search runs: no torch is loaded, and nothing is written.
"""

from __future__ import annotations

import sys
from collections import Counter

from smnas_optuna import open_study


def main(study_dir: str, max_latency_ms: float = float("inf")) -> None:
    """Print what is in ``study_dir``; the best detector is the most accurate one of at most ``max_latency_ms``."""
    study = open_study(study_dir)
    print(study)

    front = study.front()  # fastest first
    for trial in front:
        print(f"{trial.latency_ms:8.2f} ms  AP {100 * trial.ap:5.1f}  {trial.arch}")

    trials = study.trials()  # pandas.DataFrame(trials) is a table of them
    for state, count in Counter(trial.state for trial in trials).items():
        print(f"{count} {state}")

    affordable = [trial for trial in front if trial.latency_ms <= max_latency_ms]
    if affordable:
        best = affordable[-1]  # along the front, slower is more accurate
        print(f"best: {best.arch}")
        print(f"its weights: load_detector({best.run_folder!r})")
    else:
        print(f"nothing on the front takes at most {max_latency_ms:g} ms")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
