"""What is shown beside the studies of a database that is opened to be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import Engine


class Beside(Protocol):
    """What is shown beside the studies of a database, as Optuna's attributes; nothing of it is stored."""

    def refresh(self, engine: Engine) -> None:
        """Read again what has changed in the database."""

    def of_study(self, study_id: int) -> Mapping[str, Any]:
        """Return attributes of a study."""
        ...

    def of_trial(self, trial_id: int) -> Mapping[str, Any]:
        """Return attributes of a trial."""
        ...
