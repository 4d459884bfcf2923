"""A node of the cluster: what it has, its copy of the data, and its session."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from smnas_optuna.cluster.messages import Errand
from smnas_optuna.config import STUDY_FILE
from smnas_optuna.engine.device import library_versions
from smnas_optuna.errors import DataError, SmnasError
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.machine import cache_folder
from smnas_optuna.workers.interrupt import StopRequest

_CODE = "code of smnas_optuna"
_ALIKE = ("smnas_optuna", _CODE, "python", "torch", "torchvision")
"""Versions that must be the same on all machines."""
DATA = "SMNAS_OPTUNA_DATA"
"""Environment variable of a node: the folder of the data there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a node says of itself.

    Attributes:
        host: Name of the machine.
        versions: Versions of the libraries, by name.
        data: Folder of the data that it names by ``SMNAS_OPTUNA_DATA``, or that lies where it lies on the machine that
            asks; None if it must be fetched.
        named: True if ``data`` was named, so that it must be the study's.
    """

    host: str
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Path | None = None
    named: bool = False


File = tuple[str, int, str]
"""A file of the data: path below the folder, bytes, and SHA-256 in hexadecimal."""


class Node:
    """Prepares a node for the trainers on it; its process is an actor of Ray.

    Args:
        errand: What all trainings have in common.
    """

    def __init__(self, errand: Errand) -> None:
        self._errand = errand

    def facts(self) -> Facts:
        """Return what the node has."""
        named = os.environ.get(DATA)
        there = Path(named) if named else self._errand.data
        found = there.is_dir()
        return Facts(
            host=socket.gethostname(),
            versions=versions_here(),
            data=there if found or named else None,
            named=bool(named),
        )

    def missing(self, files: Sequence[File]) -> list[str]:
        """Return the paths of those files that its copy of the data lacks."""
        root = copied_data(self._errand)
        return [path for path, size, digest in files if not _is_there(root / path, size, digest)]

    def store(self, files: Mapping[str, bytes]) -> None:
        """Store files of the data in its copy; each appears once it is complete."""
        root = copied_data(self._errand)
        for name, content in files.items():
            path = root / name
            if not path.resolve().is_relative_to(root.resolve()):
                raise DataError(f"{name}: leads out of the data folder", fix="give the file another name")
            _write(path, content)

    def copy(self) -> Path:
        """Return the folder of its copy of the data."""
        return copied_data(self._errand)

    def check(self, data: Path) -> str | None:
        """Read and check the data; return what is wrong with it, or None if it is the study's."""
        try:
            session = begin_session(self._errand, data, None, StopRequest())
        except SmnasError as error:
            return error.message
        splits, errand = session.testbed.splits, self._errand
        if (splits.content_hash, splits.test_hash) != (errand.content, errand.test):
            return f"{data} has other data than the study ({splits.content_hash[:8]} instead of {errand.content[:8]})"
        return None


def versions_here() -> dict[str, str]:
    """Return the versions of this package and of its libraries, by name."""
    return {"smnas_optuna": version("smnas-optuna"), _CODE: _hash_of_code(), **library_versions()}


@cache
def _hash_of_code() -> str:
    """Return a hash of this package's files: its version is the same at every commit of a checkout."""
    root, digest = Path(__file__).parents[1], hashlib.blake2b(digest_size=4)
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def other_versions(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return what differs so much that results do not compare, or that messages are not understood, in words.

    Patches of Python do not count, nor what torch was built for: ``2.11.0+cpu`` and ``2.11.0+cu128`` are alike.
    """

    def release(versions: Mapping[str, str], name: str) -> str:
        parts = versions.get(name, "none").partition("+")[0].split(".")
        return ".".join(parts[:2] if name == "python" else parts)

    return [
        f"{name} {there.get(name, 'none')} instead of {here.get(name, 'none')}"
        for name in _ALIKE
        if release(there, name) != release(here, name)
    ]


def copied_data(errand: Errand) -> Path:
    """Return the folder of this node's copy of the data, which may not exist."""
    return _folder(errand) / "data"


def begin_session(errand: Errand, data: Path, threads: int | None, stop: StopRequest) -> Session:
    """Begin a session on this node, which trains and times nothing.

    Args:
        errand: What all trainings have in common.
        data: Folder of the data on this node.
        threads: CPU threads to train with; None for all.
        stop: Checked at every step.

    Raises:
        SmnasError: If the data or the device cannot be used.
    """
    path = _folder(errand) / "studies" / errand.study
    _write(path / STUDY_FILE, errand.study_file.encode())
    return prepare(
        StudyFolder(path),
        listener=Listener(),
        stop=stop,
        data_dir=data,
        device="cuda" if torch.cuda.is_available() else "cpu",
        threads=threads,
        stage=errand.stage,
        times=False,
        workers=2,  # trainers of a node share decoded images
    )


def _folder(errand: Errand) -> Path:
    return cache_folder() / "cluster" / errand.content[:32]


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears once it is complete; another process of the node may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def _is_there(path: Path, size: int, digest: str) -> bool:
    with suppress(OSError):
        return path.stat().st_size == size and hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return False
