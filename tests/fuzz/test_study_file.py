"""Spoiled study files: each is read, or refused in one message."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space import ModularSearchSpace, StructuralSearchSpace, baselines_of

from ..data.hostile import time_limit
from .properties import nothing_changes, refusal
from .study_files import VALID, spoiled

nightly = pytest.mark.nightly


def _use(settings: StudySettings) -> None:
    """What a search makes of its settings before it looks at the data."""
    baselines = baselines_of(settings)
    space = StructuralSearchSpace(settings.space.structural)
    assert space.size > 0
    assert space.in_words()
    parent = baselines[0] if baselines else decode(settings.reference)
    assert ModularSearchSpace(settings.space.modular, parent, settings.space.structural.input_sizes).size > 0
    assert settings.detector.constants()
    assert settings.rungs == tuple(sorted(settings.rungs))
    again = StudySettings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json"), allow_nan=False)))
    assert again == settings


def _try(study_dir: Path, content: bytes) -> str | None:
    """Return the message that refuses a study file of that content; None if it is good."""
    path = study_dir / "study.toml"
    path.write_bytes(content)
    with nothing_changes(study_dir.parent, outside=study_dir.name), time_limit(20):
        try:
            _use(load_settings(study_dir))
        except ConfigError as error:
            assert sorted(study_dir.iterdir()) == [path]
            return refusal(error, "study.toml")
    assert path.read_bytes() == content
    return None


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("place", range(len(VALID)))
def test_valid_files_are_good(place: int, study_dir: Path) -> None:
    assert _try(study_dir, VALID[place].encode()) is None


@pytest.mark.parametrize(
    ("begin", "count"), [(0, 300), *(pytest.param(begin, 1000, marks=nightly) for begin in range(1000, 21_000, 1000))]
)
def test_spoiled_files_are_good_or_refused(begin: int, count: int, study_dir: Path) -> None:
    refused = 0
    for seed in range(begin, begin + count):
        try:
            refused += _try(study_dir, spoiled(random.Random(seed))) is not None
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

    assert 0.5 * count < refused < 0.98 * count, "some are still good, and most are not"
