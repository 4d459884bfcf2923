"""A cluster examined: its nodes, what they have, and whether they could train for a study."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from smnas_optuna.cluster.connection import connected
from smnas_optuna.cluster.messages import Errand
from smnas_optuna.cluster.needs import Needs, needs_of
from smnas_optuna.cluster.node import Facts, Node, other_versions, versions_here
from smnas_optuna.cluster.nodes import Nodes
from smnas_optuna.cluster.workforce import errand_of
from smnas_optuna.config import RaySettings
from smnas_optuna.doctor import Finding
from smnas_optuna.duration import plural
from smnas_optuna.errors import first_line
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import read_identity
from smnas_optuna.study.record import KILLED_TWICE
from smnas_optuna.workers.interrupt import StopRequest

NO_ERRAND = Errand(
    study="", study_file="", stage="structural", content="", test=None, data=Path("/nonexistent"), versions={}
)
"""Errand of a cluster that is examined without a study."""
SAME_VERSIONS = "install the same versions on all nodes, or take it out of the cluster"
SAME_DATA = "name the folder of the study's data there by SMNAS_OPTUNA_DATA, or name none: it then gets a copy"


def examine_cluster(
    address: str, study_dir: Path | None, stop: StopRequest, data_dir: Path | None = None
) -> Iterator[Finding]:
    """Examine the nodes of a cluster; with a study also whether they have its data. Nothing is copied or trained.

    Args:
        address: Address of the cluster; see :func:`.connection.connected`.
        study_dir: The study folder.
        stop: Checked while a node is waited for.
        data_dir: The data folder; by default that of the last search, or ``data`` in the study folder.

    Raises:
        DeviceError: If there is no cluster.
        SmnasError: If the study or its data cannot be used.
    """
    errand, settings = NO_ERRAND, RaySettings()
    if study_dir is not None:
        folder = StudyFolder(study_dir)
        session = prepare(folder, listener=Listener(), stop=stop, data_dir=data_dir, device="cpu", times=False)
        identity = read_identity(study_dir) or secrets.token_hex(8)  # a look writes nothing
        errand, settings = errand_of(session, "structural", identity), session.settings.ray
    with connected(address) as ray:
        needs = needs_of(ray, settings)
        nodes = Nodes(ray, errand, needs, lambda _: None, stop.check)
        for node in ray.nodes():
            name = node["NodeID"][:6]
            if not node["Alive"]:
                yield Finding(
                    level="warning", what=f"node {name} of the cluster is dead", fix="start it again, if it is needed"
                )
                continue
            try:
                facts, problem = _asked(nodes, node["NodeID"], errand)
                yield _finding(name, node["Resources"], needs, facts, problem, with_study=errand is not NO_ERRAND)
            except ray.exceptions.RayError as error:
                what = f"node {name} does not answer: {first_line(error)}"
                yield Finding(level="fault", what=what, fix="look at its log, or start it again")
    if study_dir is not None:
        yield from _examine_trials(StudyFolder(study_dir))


def _asked(nodes: Nodes, node_id: str, errand: Errand) -> tuple[Facts, str | None]:
    """Return what a node says of itself, and what is wrong with its data; None if nothing, or if it has none."""
    actor = nodes.pinned(Node, node_id, errand)
    try:
        facts: Facts = nodes.wait(actor.facts.remote())
        is_asked = errand is not NO_ERRAND and facts.data is not None
        return facts, nodes.wait(actor.check.remote(facts.data)) if is_asked else None
    finally:
        nodes.end(actor)


def _finding(
    name: str, resources: Mapping[str, float], needs: Needs, facts: Facts, problem: str | None, *, with_study: bool
) -> Finding:
    places = needs.places_on(resources)
    has = ", ".join(f"{kind} {resources[kind]:g}" for kind in ("CPU", "GPU") if resources.get(kind)) or "no CPU"
    trains = f"trains {places} {plural(places, 'detector')} at a time" if places else "trains nothing"
    what = f"node {facts.host} ({name}): {has}; {trains}"
    if other := other_versions(facts.versions, versions_here()):
        return Finding(level="fault", what=f"{what}; it has {', '.join(other)}", fix=SAME_VERSIONS)
    if problem is not None and facts.named:
        return Finding(level="fault", what=f"{what}; {problem}", fix=SAME_DATA)
    if places and facts.data is not None and problem is None:
        what += f"; data in {facts.data}"
    elif places and with_study:
        what += "; gets a copy of the data"
    return Finding(level="fine", what=what)


def _examine_trials(folder: StudyFolder) -> Iterator[Finding]:
    records = folder.records() if folder.structural is not None else []
    killed = [str(record.arch) for record in records if record.reason == KILLED_TWICE]
    if killed:
        count = f"{len(killed)} {plural(len(killed), 'architecture')}"
        what = f"{count} killed the processes that trained it, such as {killed[0]}"
        yield Finding(
            level="warning", what=what, fix="`dmesg` on the nodes says what killed them; memory in most cases"
        )
