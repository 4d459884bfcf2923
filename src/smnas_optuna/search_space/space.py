"""What a search may ask for: genes with their choices, how they are read, and how they mutate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from smnas_optuna.arch import DetectorSpec

Gene = str | int
Genome = Mapping[str, Gene]


class SearchSpace(ABC):
    """A set of architectures, and genomes of a fixed length that are read as them.

    Attributes:
        choices: Optuna parameter -> its choices, in the order in which they are asked.
        size: Number of different architectures; genomes that are read as one count once.
    """

    choices: Mapping[str, tuple[Gene, ...]]
    size: int

    def suggest(self, trial: optuna.Trial) -> DetectorSpec:
        """Read one architecture from ``trial``.

        Every parameter is named after the spec field that it sets, and every one is asked in every trial: NSGA-II
        crosses over only what all trials share.
        """
        genome: dict[str, Any] = {}
        for name, choices in self.choices.items():
            genome[name] = trial.suggest_categorical(name, choices)
        return self.express(genome)

    @abstractmethod
    def in_words(self) -> str:
        """What it holds, in a few words that follow "architectures"."""

    @abstractmethod
    def express(self, genome: Genome) -> DetectorSpec:
        """The architecture that ``genome`` is read as; every genome is read as one."""

    @abstractmethod
    def genome(self, spec: DetectorSpec) -> Genome:
        """A genome that is read as ``spec``.

        Raises:
            ConfigError: If the space does not hold it; names the first gene that it lacks.
        """

    @abstractmethod
    def mutate(self, genome: Genome, random: np.random.Generator) -> Genome:
        """A genome a few steps away."""

    def draw(self, random: np.random.Generator) -> Genome:
        """A genome at random."""
        return {name: values[int(random.integers(len(values)))] for name, values in self.choices.items()}

    def step(self, genome: Genome, name: str, random: np.random.Generator) -> dict[str, Gene]:
        """``genome`` with one gene moved to a neighbour among its choices, which are listed in order."""
        choices = self.choices[name]
        place = choices.index(genome[name])
        neighbours = [i for i in (place - 1, place + 1) if 0 <= i < len(choices)]
        return {**genome, name: choices[int(random.choice(neighbours))]}


def listed(choices: tuple[Gene, ...]) -> str:
    """``choices`` as people list them."""
    return ", ".join(map(str, choices))
