"""``python -m smnas_optuna.cli``, as workers are started."""

from smnas_optuna.cli import main

main()
