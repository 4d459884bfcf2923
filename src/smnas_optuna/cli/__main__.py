"""``python -m smnas_optuna.cli``, the command of started workers."""

from smnas_optuna.cli import main

main()
