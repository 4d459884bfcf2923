"""A note that a front was judged by other limits than those in the study file."""

from __future__ import annotations

from smnas_optuna.config import load_settings
from smnas_optuna.errors import SmnasError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.stored import study_attrs


def limits_note(folder: StudyFolder) -> str | None:
    """Return a line that names the limits that changed in the study file since the last search; None if none did.

    Fronts are judged by the limits of the last search, everywhere: a front must not depend on who reads it, or on a
    file that is being edited. A study file that is missing or wrong says nothing.

    Raises:
        StudyError: If the study's database cannot be used.
    """
    study = folder.structural
    if study is None:
        return None
    try:
        now = load_settings(folder.path).search
    except SmnasError:
        return None
    was = Limits.stored(study_attrs(study))
    limits = {
        "max_latency_ms": (was.max_latency_ms, now.max_latency_ms),
        "max_params": (was.max_params, now.max_params),
    }
    changed = [f"{name} is {_in_words(new)}, was {_in_words(old)}" for name, (old, new) in limits.items() if old != new]
    if not changed:
        return None
    return f"note: study.toml has other limits than this front: {'; '.join(changed)}; the next search applies them"


def _in_words(limit: float | None) -> str:
    return "none" if limit is None else f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
