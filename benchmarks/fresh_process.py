"""Measurements that want a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def measured_in_a_fresh_process(script: str, study: Path, data: Path | None, *options: str) -> Any:
    """What ``script`` prints as JSON in its last line, for a study and its data, with further options."""
    command = [sys.executable, script, "--study", str(study), *options]
    command += [] if data is None else ["--data", str(data)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])
