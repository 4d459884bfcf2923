"""The complete state of a training, as tensors and JSON values, random generators included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CPU_GENERATOR, CUDA_GENERATOR = "generator.cpu", "generator.cuda"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """The state of a training between two steps.

    Attributes:
        tensors: By name, on the CPU, contiguous; no two share memory.
        values: JSON values by name.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def misfit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """Return the first difference of ``given`` from ``expected`` in names, shapes or types; None if there is none."""
    missing, extra = expected.keys() - given.keys(), given.keys() - expected.keys()
    if missing:
        return f"{len(missing)} of {len(expected)} tensors are missing, such as {min(missing)}"
    if extra:
        return f"{len(extra)} of {len(given)} tensors are unknown, such as {min(extra)}"
    for name, tensor in expected.items():
        wanted, found = ((tuple(each.shape), each.dtype) for each in (tensor, given[name]))
        if wanted != found:
            return f"{name} is {found[1]} {list(found[0])} instead of {wanted[1]} {list(wanted[0])}"
    return None


def seed_generators(seed: int, epoch: int) -> None:
    """Seed torch's global generators of all devices from (seed, epoch); neighbouring pairs give unrelated streams."""
    torch.manual_seed(int(np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1, np.uint64)[0]))


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the global generators that a training on ``device`` may use, each uint8 on the CPU."""
    states = {CPU_GENERATOR: torch.get_rng_state()}
    if device.type == "cuda":
        states[CUDA_GENERATOR] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the global generators to states from :func:`generator_states`."""
    torch.set_rng_state(states[CPU_GENERATOR])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[CUDA_GENERATOR], device)


def check_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Check ``states`` by setting temporary generators to them.

    Raises:
        RuntimeError: If they are not states of a generator.
    """
    torch.Generator().set_state(states[CPU_GENERATOR])
    if device.type == "cuda":
        torch.Generator(device).set_state(states[CUDA_GENERATOR])
