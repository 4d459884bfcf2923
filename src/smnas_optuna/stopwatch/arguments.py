"""A parser of command lines without packages beyond Python's."""

from __future__ import annotations

import argparse
from typing import NoReturn

from smnas_optuna.errors import LONGEST_MESSAGE, printable, shortened


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one short line, in which a terminal finds nothing to obey."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        super().error(shortened(printable(shortened(message, LONGEST_MESSAGE)).replace("\n", " "), LONGEST_MESSAGE))
