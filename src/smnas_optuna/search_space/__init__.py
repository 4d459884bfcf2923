"""Trial -> DetectorSpec: which architectures a stage may ask for, and how Optuna names their genes."""

from smnas_optuna.config import StructuralSpace
from smnas_optuna.search_space.structural import count_architectures, express, structural_genome, suggest_structural

__all__ = ["StructuralSpace", "count_architectures", "express", "structural_genome", "suggest_structural"]
