"""The timing of exported detectors, without torch: one against another, on any machine that has a runtime.

It needs what :mod:`smnas_optuna.runtime` needs. ``python -m smnas_optuna.stopwatch --help`` says how to use it.
"""
