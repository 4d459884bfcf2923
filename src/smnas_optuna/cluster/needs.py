"""What a training takes of a node, and how many fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smnas_optuna.config import RaySettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a training takes of a node.

    Attributes:
        gpus: GPUs, or a share of one; 0 for a training on the CPU.
        cpus: CPU cores.
    """

    gpus: float
    cpus: float

    def places_on(self, resources: Mapping[str, float]) -> int:
        """Return the number of trainings that fit on a node with these resources.

        Ray takes a share of a GPU from one GPU, and never parts of two.
        """
        fits = [_times(resources.get("CPU", 0.0), self.cpus)] if self.cpus else []
        gpus = resources.get("GPU", 0.0)
        if self.gpus >= 1:
            fits.append(_times(gpus, self.gpus))
        elif self.gpus:
            fits.append(int(gpus) * _times(1.0, self.gpus) + _times(gpus % 1, self.gpus))
        return min(fits, default=0)


def _times(there: float, each: float) -> int:
    return int(there / each + 1e-9)


def needs_of(ray: Any, settings: RaySettings) -> Needs:
    """Return what a training takes of a node; a GPU, if a node has one, unless the study file says otherwise."""
    gpus = settings.gpus
    if gpus is None:
        gpus = 1.0 if any(node["Alive"] and node["Resources"].get("GPU") for node in ray.nodes()) else 0.0
    return Needs(gpus=gpus, cpus=settings.cpus)


def places_of(ray: Any, needs: Needs) -> int:
    """Return the number of trainings that fit into a cluster at a time."""
    return sum(needs.places_on(node["Resources"]) for node in ray.nodes() if node["Alive"])
