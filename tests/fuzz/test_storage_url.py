"""Spoiled URLs of databases: each is refused in one message, or names a database that is not there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.study.database import URL_FILE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.storage import explained_disk_errors, use_storage

from ..data.hostile import time_limit
from .properties import nothing_changes, refusal

NOBODY = "127.0.0.1:1"
"""A port at which nobody listens: a connection is refused at once."""
VALID = (
    f"postgresql+psycopg://me@{NOBODY}/searches",
    f"postgresql://{NOBODY}/x",
    f"postgresql+psycopg://{NOBODY}/x?connect_timeout=1",
    f"postgresql+psycopg2://{NOBODY}/x",
    f"mysql+pymysql://root@{NOBODY}/a",
    f"oracle://{NOBODY}",
    f"mssql+pyodbc://{NOBODY}/d",
)
LETTERS = "abc:/@?#[]%&=+ \t\n\0é\x1b0123456789'\"\\\u202e"
PORTS = ("99999999", "-1", "abc", "0", "65536", "1e5", "9" * 5000, "")


def spoiled(rng: random.Random) -> str:
    """A valid URL after one to three mutations."""
    url = rng.choice(VALID)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place, end = sorted(rng.choices(range(len(url) + 1), k=2))
        match rng.randrange(5):
            case 0:
                url = url[:place] + "".join(rng.choices(LETTERS, k=rng.choice((1, 1, 5)))) + url[place:]
            case 1:
                url = url[:place] + url[end:]
            case 2:
                url = (url[:end] + url[place:end] * rng.choice((1, 3, 3000)) + url[end:])[:1_000_000]
            case 3:
                url = url[:place]
            case _:
                url = url.replace(":1/", f":{rng.choice(PORTS)}/")
    return url


def _try(study_dir: Path, url: str) -> None:
    with nothing_changes(study_dir.parent, outside=study_dir.name), time_limit(10):
        try:
            with explained_disk_errors(study_dir):
                use_storage(study_dir, url)
                named = StudyFolder(study_dir).studies if NOBODY in url else None  # else a machine that is there
        except StudyError as error:
            refusal(error)
        else:
            assert named is None, "nobody listens there"
    assert {path.name for path in study_dir.iterdir()} <= {URL_FILE}


@pytest.mark.parametrize(
    ("begin", "count"), [(0, 150), *(pytest.param(n, 500, marks=pytest.mark.nightly) for n in range(500, 5500, 500))]
)
def test_spoiled_urls_are_refused(begin: int, count: int, tmp_path: Path) -> None:
    for seed in range(begin, begin + count):
        url = spoiled(random.Random(seed))
        study_dir = tmp_path / str(seed)
        study_dir.mkdir()
        try:
            _try(study_dir, url)
        except BaseException as error:
            error.add_note(f"seed {seed}: {url[:300]!r}")
            raise
