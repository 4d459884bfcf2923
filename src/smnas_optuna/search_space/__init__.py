"""Trial -> DetectorSpec: which architectures a stage may ask for, and how Optuna names their genes."""

from smnas_optuna.search_space.modular import ModularSearchSpace, encoded
from smnas_optuna.search_space.space import Gene, Genome, SearchSpace
from smnas_optuna.search_space.structural import StructuralSearchSpace

__all__ = ["Gene", "Genome", "ModularSearchSpace", "SearchSpace", "StructuralSearchSpace", "encoded"]
