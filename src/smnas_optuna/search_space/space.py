"""Interface of a search space: genes and their choices, decoding of genomes, and mutation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from smnas_optuna.arch import DetectorSpec

Gene = str | int
Genome = Mapping[str, Gene]
MAX_DRAWS = 1000
"""Maximum number of draws until one is accepted. In the paper's space 1 in 20 is; the smallest share is that of C4."""


class SearchSpace(ABC):
    """A set of architectures, encoded by genomes of a fixed length.

    Attributes:
        choices: Choices by Optuna parameter, in the order in which a trial suggests them.
        size: Number of distinct architectures; genomes of the same architecture count once.
    """

    choices: Mapping[str, tuple[Gene, ...]]
    size: int

    def suggest(self, trial: optuna.Trial) -> DetectorSpec:
        """Suggest one architecture with ``trial``.

        Every parameter is named after the spec field that it sets. Every trial suggests all parameters, because NSGA-II
        crosses over only parameters that all trials share.
        """
        genome: dict[str, Any] = {}
        for name, choices in self.choices.items():
            genome[name] = trial.suggest_categorical(name, choices)
        return self.express(genome)

    @abstractmethod
    def in_words(self) -> str:
        """Describe the space in a few words that follow "architectures"."""

    @abstractmethod
    def express(self, genome: Genome) -> DetectorSpec:
        """Decode ``genome`` into its architecture; every genome is valid."""

    @abstractmethod
    def genome(self, spec: DetectorSpec) -> Genome:
        """Encode ``spec`` as a genome; the inverse of :meth:`express`.

        Raises:
            ConfigError: If the space does not contain ``spec``; names the first gene that is outside.
        """

    @abstractmethod
    def mutate(self, genome: Genome, random: np.random.Generator) -> Genome:
        """Return a genome a few steps away."""

    def draw(self, random: np.random.Generator) -> Genome:
        """Draw a random genome."""
        return {name: values[int(random.integers(len(values)))] for name, values in self.choices.items()}

    def draw_architecture(self, random: np.random.Generator) -> Genome:
        """Draw a random genome so that all architectures are equally likely, as far as genomes of ``draw`` are.

        Several genomes can be the same architecture, because some genes switch others off: a detector without a pyramid
        has one for each choice of the pyramid's genes. Only the one that :meth:`genome` returns is accepted.
        """
        for _ in range(MAX_DRAWS):
            genome = self.draw(random)
            spec = self.express(genome)
            if self.genome(spec) == genome:
                return genome
        return self.genome(spec)

    def step(self, genome: Genome, name: str, random: np.random.Generator) -> dict[str, Gene]:
        """Return ``genome`` with the gene ``name`` moved to a neighbouring choice; choices are ordered."""
        choices = self.choices[name]
        place = choices.index(genome[name])
        neighbours = [i for i in (place - 1, place + 1) if 0 <= i < len(choices)]
        return {**genome, name: choices[int(random.choice(neighbours))]}


def listed(choices: tuple[Gene, ...]) -> str:
    """Return ``choices`` as a comma-separated list."""
    return ", ".join(map(str, choices))
