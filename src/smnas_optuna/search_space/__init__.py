"""Search spaces: the architectures that a search may request, and their genes as Optuna parameters."""

from smnas_optuna.search_space.modular import ModularSearchSpace
from smnas_optuna.search_space.space import Gene, Genome, SearchSpace
from smnas_optuna.search_space.structural import StructuralSearchSpace, baselines_of

__all__ = ["Gene", "Genome", "ModularSearchSpace", "SearchSpace", "StructuralSearchSpace", "baselines_of"]
