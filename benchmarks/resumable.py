"""Results that a benchmark goes on from where it was stopped."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def stored_results(
    parser: argparse.ArgumentParser, output: Path, about: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The results in ``output``, or none if it is not there; exits if they were measured under other conditions.

    Args:
        parser: Of the benchmark's command line, which tells the user.
        output: JSON with the conditions and ``results``.
        about: The conditions now, JSON values by name.
    """
    if not output.exists():
        return {}
    stored = json.loads(output.read_text())
    if {name: stored[name] for name in about} != about:
        parser.error(f"{output} was measured with other data, recipe, device or versions: move it away")
    results: dict[str, dict[str, Any]] = stored["results"]
    return results
