"""Reading of a ``study.toml``: every mistake in it is one message that names the file, the key and what to do."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from smnas_optuna.config.settings import StudySettings
from smnas_optuna.errors import ConfigError, StudyError, quote, shortened
from smnas_optuna.real_files import read_text

STUDY_FILE = "study.toml"
LONGEST_FILE = 2**18
"""Bytes of the largest study file; the largest of this repository has 2,400."""
MAX_DOTS = 400
"""Maximum number of dots in a line: 80 architectures. A dotted key takes time that grows with its length squared."""
_LONGEST_KEY = 80
_FILE_FIX = "name a folder that holds a study.toml, such as studies/shapes, or copy one from there"


def load_settings(study_dir: Path) -> StudySettings:
    """Return the settings in ``study_dir/study.toml``.

    Raises:
        ConfigError: If the file is missing or is not TOML, has an unknown key, or has an impossible value.
        StudyError: If ``study_dir`` is no folder.
    """
    check_study_dir(study_dir)
    path = study_dir / STUDY_FILE
    try:
        text = read_text(path, LONGEST_FILE)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", fix=_FILE_FIX) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}", fix="make it a readable text file in UTF-8"
        ) from None
    try:
        return StudySettings.model_validate(_parse(path, text))
    except ValidationError as error:
        raise _config_error(path, error) from None


def check_study_dir(study_dir: Path) -> None:
    """Check that ``study_dir`` is a folder; it may hold no study file.

    Raises:
        StudyError: If it is missing, is a file, or cannot be looked at.
    """
    try:
        is_folder = study_dir.is_dir()
    except OSError as error:  # a name that is too long, or a folder above it that is closed to us
        raise StudyError(f"{study_dir}: cannot be opened: {error.strerror or error}", fix=_FILE_FIX) from None
    if is_folder:
        return
    if study_dir.exists():
        fix = f"name its folder: {study_dir.parent}" if study_dir.name == STUDY_FILE else _FILE_FIX
        raise StudyError(f"{study_dir}: is a file, not a study folder", fix=fix)
    raise StudyError(f"{study_dir}: there is no such folder", fix=_FILE_FIX)


def _parse(path: Path, text: str) -> dict[str, Any]:
    deep = [number for number, line in enumerate(text.splitlines(), start=1) if line.count(".") > MAX_DOTS]
    if deep:
        raise ConfigError(
            f"{path}: is not a study file: line {deep[0]} has more than {MAX_DOTS} dots", fix="remove or split it"
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}", fix="correct that line; see https://toml.io") from None
    except RecursionError:
        cause = "lists or tables are nested too deeply"
    except ValueError:  # Python reads no integer of more than 4,300 digits
        cause = "a number has thousands of digits"
    raise ConfigError(f"{path}: is not a study file: {cause}", fix="remove them; no setting takes such a value")


def _config_error(path: Path, error: ValidationError) -> ConfigError:
    """Turn pydantic's first error into a message in terms of the study file."""
    problems = error.errors()
    # An unknown key explains a missing one, so it comes first.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    count = f" ({len(problems)} problems in all)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        key, known = shortened(str(problem["loc"][-1]), _LONGEST_KEY), _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0)
        fix = f"did you mean `{near[0]}`? known here: {', '.join(known)}" if near else "remove it"
        return ConfigError(f"{path}: unknown key `{_named(problem['loc'])}`{count}", fix=fix)
    cause = problem["msg"].removeprefix("Value error, ")
    got = "" if isinstance(problem["input"], dict) else f", but got {quote(problem['input'])}"
    return ConfigError(
        f"{path}: {_named(problem['loc']) or 'the study'}: {cause}{got}{count}", fix="correct that value"
    )


def _named(location: Sequence[int | str]) -> str:
    """Return the key with the tables around it: ``search.baselines.1``."""
    return ".".join(key if (key := str(part)).isprintable() else quote(key) for part in location)


def _known_keys(location: Sequence[int | str]) -> list[str]:
    model: type[BaseModel] = StudySettings
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(model.model_fields)
