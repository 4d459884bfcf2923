"""``python -m smnas_optuna.stopwatch``."""

import sys

from smnas_optuna.stopwatch.command import main

sys.exit(main(sys.argv[1:]))
