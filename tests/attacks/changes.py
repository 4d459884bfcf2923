"""Changes of one file or folder of a study, as a careless or hostile person, or a disk, makes them."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna

from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.stored import STUDY_FORMS

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
"""The first baseline of the tests' study."""
THEIRS = "theirs"
"""A folder beside the study that is somebody else's: a folder and a file of each name that a search uses."""
Make = Callable[[Path, Path, Path], object]
"""Makes something at the first path; the second is the original, moved away; the third is somebody else's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something else in the place of a part of a study.

    Attributes:
        path: The part, relative to the study folder; it need not exist.
        how: Name of what takes its place.
        make: Makes it.
        refused: Commands that must refuse the study, each with a part of what it says. All others must do their work.
    """

    path: str
    how: str
    make: Make
    refused: dict[str, str]

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.path} {self.how}"

    @contextmanager
    def made(self, study_dir: Path) -> Iterator[None]:
        """Make the change for the body, and then put the original back."""
        place, aside = study_dir / self.path, study_dir.parent / "aside"
        aside.mkdir(exist_ok=True)
        original = aside / place.name
        if os.path.lexists(place):
            place.rename(original)
        place.parent.mkdir(parents=True, exist_ok=True)
        self.make(place, original, study_dir.parent / THEIRS)
        try:
            yield
        finally:
            remove(place)
            if os.path.lexists(original):
                original.rename(place)
            aside.rmdir()


def make_theirs(folder: Path) -> None:
    """Make somebody else's folder beside the study in ``folder``."""
    theirs = folder / THEIRS
    for name in ("runs", "report", "workers", "cache", "verify", "weights", ARCH):
        (theirs / name / ARCH).mkdir(parents=True)
        for file in ("a.part", "x.lock", "checkpoint.safetensors", "weights.safetensors", "detector.json", "front.csv"):
            (theirs / name / file).write_text("theirs")
            (theirs / name / ARCH / file).write_text("theirs")
    (theirs / "file").write_text("theirs")
    study = optuna.create_study(study_name=STRUCTURAL, storage=f"sqlite:///{theirs}/theirs.db")
    study._storage.remove_session()


def remove(path: Path) -> None:
    """Remove whatever is at ``path``, and nothing that it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _nothing(_place: Path, _original: Path, _theirs: Path) -> None:
    """The part is gone."""


def _text(content: str | bytes) -> Make:
    def make(place: Path, _original: Path, _theirs: Path) -> None:
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def _edited(edit: Callable[[bytes], bytes]) -> Make:
    """Make an edited copy, an empty one where the study lacks the part: it keeps no weights of a dominated detector."""

    def make(place: Path, original: Path, _theirs: Path) -> None:
        place.write_bytes(edit(original.read_bytes()) if original.exists() else b"")

    return make


def _link(name: str) -> Make:
    def make(place: Path, _original: Path, theirs: Path) -> None:
        place.symlink_to(theirs / name)

    return make


def _hard_link(name: str) -> Make:
    def make(place: Path, _original: Path, theirs: Path) -> None:
        place.hardlink_to(theirs / name)

    return make


def _folder(place: Path, _original: Path, _theirs: Path) -> None:
    place.mkdir()


def _pipe(place: Path, _original: Path, _theirs: Path) -> None:
    os.mkfifo(place)


def _bomb(place: Path, _original: Path, _theirs: Path) -> None:
    """Make a pickle that creates a file when it is unpickled."""

    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(place.with_name("exploded")),)

    place.write_bytes(pickle.dumps(Bomb()))


def _sql(*statements: str) -> Make:
    """Make a copy of the database in which ``statements`` have been executed."""

    def make(place: Path, original: Path, _theirs: Path) -> None:
        shutil.copy(original, place)
        with closing(sqlite3.connect(place)) as database, database:
            for statement in statements:
                database.execute(statement)

    return make


def _foreign_database(place: Path, _original: Path, _theirs: Path) -> None:
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("CREATE TABLE photos (name TEXT)")


def _foreign_study(place: Path, _original: Path, _theirs: Path) -> None:
    """Make the study of another program, of the same name and with the same objectives."""
    study = optuna.create_study(
        study_name=STRUCTURAL, storage=f"sqlite:///{place}", directions=["minimize", "maximize"]
    )
    study.add_trial(optuna.trial.create_trial(values=(1.0, 0.5), user_attrs={"arch": ARCH}))
    study._storage.remove_session()


def _outer_url(place: Path, _original: Path, theirs: Path) -> None:
    place.write_text(f"sqlite:///{theirs / 'theirs.db'}\n")


LOOKING, WORKING, LONG = ("front", "doctor"), ("retime", "worker"), ("structural", "verify")
"""The commands that are tried: those that look, those that go on in one process, and those that start workers."""
EXAMINING = ("doctor", *WORKING, *LONG)


def _refused(words: str, *commands: str) -> dict[str, str]:
    return dict.fromkeys(commands or (*LOOKING, *WORKING, *LONG), words)


_HOSTILE_STUDY = "UPDATE study_user_attributes SET value_json = '[\"x\"]' WHERE key = '{}'"
_GENERATION = "UPDATE trial_system_attributes SET value_json = '\"x\"' WHERE key LIKE '%:generation'"
_PARENTS = "INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (1, '{}:parent:1', '\"x\"')"
_CHOICES = "UPDATE trial_params SET distribution_json = replace(distribution_json, '64x64', '99x99')"
_EXCHANGED = "is damaged: |cannot be used now: |is no study database: "

CHANGES = [
    Change(path="study.db", how="is deleted", make=_nothing, refused=_refused("is gone: it was deleted")),
    Change(path="study.db", how="is emptied", make=_text(""), refused=_refused("is empty: something has removed")),
    Change(path="study.db", how="is text", make=_text("no database"), refused=_refused("is no study database: ")),
    Change(path="study.db", how="is cut off", make=_edited(lambda old: old[:30_000]), refused=_refused(_EXCHANGED)),
    Change(
        path="study.db",
        how="is overwritten",
        make=_edited(lambda old: old[:5000] + b"\xff" * 9000 + old[14_000:]),
        refused=_refused(_EXCHANGED),
    ),
    Change(
        path="study.db",
        how="is a folder",
        make=_folder,
        refused=_refused("is no study database: it is no file|study.db is a "),
    ),
    Change(
        path="study.db",
        how="is a pipe",
        make=_pipe,
        refused=_refused("is no study database: it is no file|study.db is a "),
    ),
    Change(
        path="study.db", how="is another program's", make=_foreign_database, refused=_refused("it holds other tables")
    ),
    Change(
        path="study.db", how="is a foreign study", make=_foreign_study, refused=_refused("was made by another program")
    ),
    Change(
        path="study.db",
        how="is a second name",
        make=_hard_link("theirs.db"),
        refused=_refused("was made by another program|second name"),
    ),
    Change(
        path="study.db",
        how="is a link",
        make=_link("theirs.db"),
        refused=_refused("was made by another program|is a link to "),
    ),
    Change(
        path="study.db",
        how="has hostile study attributes",
        make=_sql(*(_HOSTILE_STUDY.format(name) for name in STUDY_FORMS if name not in ("fingerprint", "folder"))),
        refused={},
    ),
    Change(
        path="study.db",
        how="has another fingerprint",
        make=_sql("UPDATE study_user_attributes SET value_json = '{\"data\": [[]]}' WHERE key = 'fingerprint'"),
        refused=_refused("the study was made with other ", *WORKING, *LONG),
    ),
    Change(
        path="study.db",
        how="has hostile trials",
        make=_sql("UPDATE trial_user_attributes SET value_json = '\"../../x\"' WHERE key = 'arch'"),
        refused=_refused("nothing can be timed again|no detector yet that could be trained again", "retime", "verify"),
    ),
    Change(
        path="study.db",
        how="has a row that is no JSON",
        make=_sql("UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'arch'"),
        refused=_refused("cannot be read, as no program writes them"),
    ),
    Change(
        path="study.db",
        how="has other genes",
        make=_sql(_CHOICES),
        refused=_refused("its trial 0 cannot be read, as no program writes them: its gene", "worker", "structural"),
    ),
    Change(
        path="study.db",
        how="has no genes",
        make=_sql("DELETE FROM trial_params"),
        refused=_refused(
            "its trial 0 cannot be read, as no program writes them: it has no gene", "worker", "structural"
        ),
    ),
    Change(
        path="study.db",
        how="has hostile generations",
        make=_sql(_GENERATION),
        refused=_refused(
            "its trial 0 cannot be read, as no program writes them: its gen", "doctor", "retime", "worker", "structural"
        ),
    ),
    Change(
        path="study.db",
        how="has hostile parents",
        make=_sql(_PARENTS.format("NSGAIISampler")),
        refused=_refused(
            "its population cannot be read, as no program writes them", "doctor", "retime", "worker", "structural"
        ),
    ),
    Change(path="study.toml", how="is deleted", make=_nothing, refused=_refused("study.toml", *EXAMINING)),
    Change(path="study.toml", how="is a folder", make=_folder, refused=_refused("study.toml", *EXAMINING)),
    Change(path="study.toml", how="is a pipe", make=_pipe, refused=_refused("study.toml", *EXAMINING)),
    Change(
        path="study.toml",
        how="is a link to nothing",
        make=_link("nothing"),
        refused=_refused("study.toml", *EXAMINING),
    ),
    Change(
        path="study.toml",
        how="is binary",
        make=_text(bytes(range(256))),
        refused=_refused("study.toml", *EXAMINING),
    ),
    Change(path="study.toml", how="is huge", make=_text("#" * 2**21), refused=_refused("study.toml", *EXAMINING)),
    Change(
        path="study.toml",
        how="has another recipe",
        make=_edited(lambda old: old.replace(b"epochs = 2", b"epochs = 3")),
        refused=_refused("the study was made with other recipe", *WORKING, *LONG),
    ),
    Change(path="runs", how="is deleted", make=_nothing, refused=_refused("nothing can be timed again", "retime")),
    Change(path="runs", how="is a link", make=_link("runs"), refused=_refused("runs is a link to ", *EXAMINING)),
    Change(path="runs", how="is a file", make=_text("x"), refused=_refused("runs is a file", *EXAMINING)),
    Change(path=f"runs/{ARCH}", how="is a link", make=_link(ARCH), refused={}),
    Change(path=f"runs/{ARCH}/a.part", how="is a link", make=_link("file"), refused={}),
    Change(path=f"runs/{ARCH}/train.log", how="is a link", make=_link("file"), refused={}),
    Change(path=f"runs/{ARCH}/checkpoint.safetensors", how="is a link", make=_link("file"), refused={}),
    Change(path=f"runs/{ARCH}/weights.safetensors", how="is cut off", make=_edited(lambda old: old[:999]), refused={}),
    Change(path=f"runs/{ARCH}/weights.safetensors", how="is a pickle", make=_bomb, refused={}),
    Change(path=f"runs/{ARCH}/weights.safetensors", how="is a pipe", make=_pipe, refused={}),
    Change(path="report", how="is a link", make=_link("report"), refused=_refused("report is a link", *EXAMINING)),
    Change(path="report", how="is a file", make=_text("x"), refused=_refused("report is a file", *EXAMINING)),
    Change(path="report/front.csv", how="is a link", make=_link("file"), refused={}),
    Change(path="report/front.csv", how="is a folder", make=_folder, refused={}),
    Change(
        path="workers",
        how="is a link",
        make=_link("workers"),
        refused=_refused("workers is a link", *EXAMINING),
    ),
    Change(path="workers/folder.id", how="is another one", make=_text("0123456789abcdef"), refused={}),
    Change(
        path="workers/folder.id",
        how="is a folder",
        make=_folder,
        refused=_refused("the identity of the study folder cannot be read", "worker", "structural"),
    ),
    Change(
        path="workers/folder.id",
        how="is a pipe",
        make=_pipe,
        refused=_refused("the identity of the study folder cannot be read", "worker", "structural"),
    ),
    Change(
        path="study.lock",
        how="is a link",
        make=_link("file"),
        refused=_refused("study.lock is a link", *EXAMINING),
    ),
    Change(
        path="study.lock",
        how="is a folder",
        make=_folder,
        refused=_refused("study.lock is a folder", *EXAMINING),
    ),
    Change(path="study.lock.json", how="is a link", make=_link("file"), refused={}),
    Change(path="verify", how="is a link", make=_link("verify"), refused=_refused("verify is a link", *EXAMINING)),
    Change(
        path="verify/weights",
        how="is a link",
        make=_link("weights"),
        refused=_refused("verify/weights is a link", *EXAMINING),
    ),
    Change(
        path="verify/results.json",
        how="is hostile",
        make=_text('{"about": {"data": {}}, "runs": [{"arch": "../../x"}]}'),
        refused=_refused("holds no results of smnas verify", "verify"),
    ),
    Change(
        path="verify/results.json",
        how="is a pipe",
        make=_pipe,
        refused=_refused("holds no results of smnas verify", "verify"),
    ),
    Change(
        path="verify/verify.lock", how="is a link", make=_link("file"), refused=_refused("is no regular file", "verify")
    ),
    Change(path="verify/results.lock", how="is a link", make=_link("file"), refused=_refused("results.lock", "verify")),
    Change(
        path="storage.url",
        how="leads outside",
        make=_outer_url,
        refused=_refused("names a file outside of the study folder"),
    ),
    Change(path="storage.url", how="is empty", make=_text(""), refused=_refused("storage.url: is empty")),
    Change(path="storage.url", how="is a pipe", make=_pipe, refused=_refused("storage.url: cannot be read")),
    Change(
        path="storage.url", how="is a link to nothing", make=_link("nothing"), refused=_refused("is a link to nothing")
    ),
    Change(path="cache", how="is a link", make=_link("cache"), refused=_refused("cache is a link", *EXAMINING)),
    Change(path="cache/images.json", how="is garbage", make=_text("[" * 9999), refused={}),
    Change(path="cache/images.json", how="is a pipe", make=_pipe, refused={}),
    Change(path="data", how="is a link", make=_link("runs"), refused=_refused("data: is a link to ", *WORKING, *LONG)),
    Change(
        path="data/instances_val.json",
        how="is cut off",
        make=_edited(lambda old: old[:99]),
        refused=_refused("instances_val.json", *WORKING, *LONG),
    ),
    Change(
        path="data/instances_val.json",
        how="is a pipe",
        make=_pipe,
        refused=_refused("instances_val.json", *WORKING, *LONG),
    ),
]
